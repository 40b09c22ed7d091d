"""Clients of rooms with history, for measurements without a load client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

WAIT_SECONDS = 30

L = TypeVar("L", bound="Listener")


class Listener(WSListener):
    """A connection to a room with history, which keeps its messages."""

    transport: WSTransport

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.position: dict[str, Any] = {}
        self.positioned = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if data.startswith(b'{"type":"serverPosition"'):
            if self.positioned.done():
                return  # a heartbeat
            self.position = json.loads(data)
            self.positioned.set_result(None)
        else:
            self.frames.append(data)


async def connect(port: int, path: str, listener: L) -> L:
    """Connect to a room."""
    url = f"ws://127.0.0.1:{port}{path}"
    await ws_connect(lambda: listener, url, websocket_handshake_timeout=WAIT_SECONDS)
    return listener


def post(listener: Listener, text: str) -> None:
    """Post a message."""
    message = json.dumps({"type": "post", "payload": {"text": text}})
    listener.transport.send(WSMsgType.TEXT, message.encode())


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.005)


async def read_lines() -> asyncio.StreamReader:
    """Return a reader of the standard input."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines
