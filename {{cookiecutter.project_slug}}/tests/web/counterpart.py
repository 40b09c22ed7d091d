"""What the browser client's scenarios talk to: a WebSocket server that does as it is told.

A scenario connects to ``/ws/<name>?steps=refuse,close:1012,echo``: the first connection of this name
is refused, the second is closed with 1012, the third and all later ones are answered. The steps:

- ``echo``: the message comes back as the payload of an ``echo``, but these are orders:
  ``close`` ``{"code", "reason"}``, ``abort``, ``raw`` ``{"text"}`` (sends this text), ``binary``,
  ``ping`` (answers ``pong`` when the client has answered), ``release`` ``{"name"}`` (a ``deaf``
  connection reads from now on), ``report`` ``{"name", "open"}`` (waits until so many connections of
  that name are open, then answers with how many there were, the query of each one's URL, and all that
  they have sent);
- ``close:CODE``: closed right after it has opened; ``abort``: cut off then, without a word;
- ``garbage``: sent what is no WebSocket frame;
- ``deaf``: nothing is read until it is released;
- ``refuse``: HTTP 503; ``silent``: never answered.

It serves the scenarios and the client to a browser too, under the service's own policy.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

START_SECONDS = 20.0
PAGE = b"<!doctype html><html lang='en'><title>Scenarios</title></html>"


class Name:
    """All connections of one name."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.open = 0
        self.received: list[Any] = []
        self.released = asyncio.Event()
        self.changed = asyncio.Condition()


class Counterpart:
    """The server; it lives in one event loop."""

    def __init__(self, files: Mapping[str, tuple[str, bytes]], policy: str) -> None:
        self.files = files
        self.policy = policy
        self.names: defaultdict[str, Name] = defaultdict(Name)
        self.steps: dict[ServerConnection, str] = {}
        self.watchers: set[asyncio.Task[None]] = set()

    async def on_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """Serve a file, or do what comes before the handshake's answer."""
        url = urlsplit(request.path)
        if not url.path.startswith("/ws/"):
            return self.file(url.path)
        name = self.names[url.path]
        steps = parse_qs(url.query).get("steps", ["echo"])[0].split(",")
        step = self.steps[ws] = steps[min(len(name.queries), len(steps) - 1)]
        name.queries.append(url.query)
        name.open += 1
        watcher = asyncio.create_task(self.watch(ws, name))
        self.watchers.add(watcher)
        watcher.add_done_callback(self.watchers.discard)
        if step == "silent":
            await ws.wait_closed()
        return ws.respond(503, "Not now.") if step == "refuse" else None

    def file(self, path: str) -> Response:
        kind, body = self.files.get(path, ("text/plain", b""))
        headers = Headers()
        headers["Content-Type"] = kind
        headers["Content-Length"] = str(len(body))
        headers["Content-Security-Policy"] = self.policy
        headers["Connection"] = "close"
        return Response(200 if path in self.files else 404, "", headers, body)

    async def watch(self, ws: ServerConnection, name: Name) -> None:
        """Count a connection until its last byte."""
        await ws.wait_closed()
        del self.steps[ws]
        async with name.changed:
            name.open -= 1
            name.changed.notify_all()

    async def on_connection(self, ws: ServerConnection) -> None:
        """Do what comes after the handshake."""
        assert ws.request is not None
        name = self.names[urlsplit(ws.request.path).path]
        step, _, code = self.steps[ws].partition(":")
        if step == "close":
            await ws.close(int(code), "as told")
            return
        if step == "abort":
            ws.transport.abort()
            return
        if step == "garbage":
            ws.transport.write(b"\xff\x00")  # a whole frame, of no kind that there is
        if step == "deaf":
            ws.transport.pause_reading()
            await name.released.wait()
            ws.transport.resume_reading()
        try:
            async for text in ws:
                message = json.loads(text)
                name.received.append(message)
                await self.answer(ws, message["type"], message["payload"], message)
        except ConnectionClosed:
            pass  # Cut off by either side.

    async def answer(self, ws: ServerConnection, order: str, payload: Any, message: Any) -> None:
        """Follow an order, or send the message back."""
        if order == "close":
            await ws.close(payload["code"], payload["reason"])
        elif order == "abort":
            ws.transport.abort()
        elif order == "raw":
            await ws.send(payload["text"])
        elif order == "binary":
            await ws.send(b"\x00{}")
        elif order == "ping":
            await (await ws.ping())
            await ws.send('{"type": "pong"}')
        elif order == "release":
            self.names[payload["name"]].released.set()
        elif order == "report":
            name = self.names[payload["name"]]
            async with name.changed:
                await name.changed.wait_for(lambda: name.open == payload["open"])
            report = {
                "connections": len(name.queries),
                "queries": name.queries,
                "received": name.received,
            }
            await ws.send(json.dumps({"type": "report", "payload": report}))
        else:
            await ws.send(json.dumps({"type": "echo", "payload": message}))


@contextmanager
def counterpart(scripts: Mapping[str, Path], policy: str) -> Iterator[str]:
    """Serve in a thread of its own: gives the address, such as ``http://127.0.0.1:1234``.

    Args:
        scripts: What is served besides an empty page at ``/``: path to file.
        policy: The Content-Security-Policy of all that is served.
    """
    files = {path: ("text/javascript", file.read_bytes()) for path, file in scripts.items()}
    files["/"] = ("text/html", PAGE)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stopping = asyncio.Event()
    port = 0

    async def run() -> None:
        nonlocal port
        server = Counterpart(files, policy)
        # NOTE: a silent handshake and a deaf connection end here, with the server, at the latest.
        async with serve(
            server.on_connection,
            "127.0.0.1",
            0,
            process_request=server.on_request,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        ) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            started.set()
            await stopping.wait()
            for name in server.names.values():
                name.released.set()
            for ws in list(server.steps):
                ws.transport.abort()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert started.wait(START_SECONDS), "the counterpart does not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_SECONDS)
        assert not thread.is_alive(), "the counterpart does not stop"
        loop.close()
