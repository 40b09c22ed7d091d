"""The check whether plain handshakes can be answered without websockets: both ways are tried, once per process."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
from typing import Any

import uvicorn
from uvicorn.server import ServerState
from websockets.version import version

logger = logging.getLogger(__name__)

REQUEST = (
    b"GET /a%20b?c=%20d HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\nx-latin: \xe4\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# The frame of the text "a", with a mask of zeros.
FRAME = b"\x81\x81\0\0\0\0a"
# What differs between any two connections, and the origin, which uvicorn does not use.
OWN_STATE = {"available_extensions", "id", "logger", "origin", "parser", "reader"}


class _Silent:
    """Stands for an event loop, its tasks, and a transport: it records what is written, and starts nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def create_task(self, coroutine: Any) -> _Silent:
        coroutine.close()
        return self

    def call_later(self, *_: object) -> _Silent:
        return self

    def get_task_factory(self) -> None: ...

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return False

    def add_done_callback(self, function: object) -> None: ...


@functools.cache
def knows_handshake(protocol_class: Any) -> bool:
    """Check whether plain handshakes can be read and answered here; log a line if not.

    Args:
        protocol_class: The class with both ways, :class:`.handshake.HandshakeProtocol`.
    """
    try:
        config = uvicorn.Config(
            no_application, log_config=None, http=asyncio.Protocol, ws=protocol_class, workers=1
        )
        config.load()
        known = _try(protocol_class, config, "receive_plain") == _try(
            protocol_class, config, "receive_any"
        )
    except Exception:  # such as an AttributeError: any means that it is another version
        known = False
    if not known:
        logger.warning(
            "the handshake of uvicorn %s with websockets %s is not known: all handshakes are read by"
            " websockets, at a higher cost; install uvicorn 0.54 and websockets 17, or a framework that knows these"
            " versions",
            uvicorn.__version__,
            version,
        )
    return known


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    """Stand for an application that is never called."""


def _try(protocol_class: Any, config: uvicorn.Config, receive: str) -> tuple[object, ...]:
    """Return all that is observable of a handshake and of a first message."""
    silent: Any = _Silent()
    protocol = protocol_class(config, ServerState(), {}, silent)
    conn = protocol.conn
    protocol.logger = conn.logger = logging.Logger(__name__, logging.CRITICAL)
    conn.debug = False
    protocol.connection_made(silent)
    getattr(protocol, receive)(REQUEST)
    early = _state_of(conn)
    with contextlib.suppress(StopIteration):
        protocol.send({"type": "websocket.accept"}).send(None)
    conn.receive_data(FRAME)
    flags = protocol.handshake_initiated, protocol.handshake_complete, protocol.close_sent
    # NOTE: the set refers to the protocol and the protocol to it: a cycle that only the garbage collector would end.
    protocol.connections.clear()
    return protocol.scope, early, _state_of(conn), conn.reader.buffer, flags, silent.written


def _state_of(conn: Any) -> dict[str, object]:
    return {name: copy.copy(value) for name, value in vars(conn).items() if name not in OWN_STATE}
