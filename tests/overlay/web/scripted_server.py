"""A scripted WebSocket server for the scenarios of realtime.js.

A scenario connects to ``/ws/<name>?steps=refuse,close:1012,echo``: the server refuses the first connection of
this name, closes the second one with 1012, and runs ``echo`` on the third and all later ones. The steps:

- ``echo``: return each message as the payload of an ``echo``, except these commands: ``close``
  ``{"code", "reason"}``, ``abort``, ``raw`` ``{"text"}`` (send this text), ``binary``, ``ping`` (send ``pong``
  when the client has answered a ping), ``release`` ``{"name"}`` (resume a ``paused`` connection), ``report``
  ``{"name", "open"}`` (wait until this number of connections of that name is open, then send the total number
  of connections, the query of each URL, and all messages received);
- ``close:CODE``: close after the handshake; ``abort``: abort the TCP connection after the handshake;
- ``garbage``: send an invalid frame;
- ``paused``: read nothing until released;
- ``refuse``: answer with HTTP 503; ``silent``: never answer.

It also serves the scenarios and the client to a browser, under the service's own policy.
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


class Connections:
    """The connections of one name."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.open = 0
        self.received: list[Any] = []
        self.released = asyncio.Event()
        self.changed = asyncio.Condition()


class ScriptedServer:
    """The server, for one event loop."""

    def __init__(self, files: Mapping[str, tuple[str, bytes]], policy: str) -> None:
        self.files = files
        self.policy = policy
        self.names: defaultdict[str, Connections] = defaultdict(Connections)
        self.steps: dict[ServerConnection, str] = {}
        self.watchers: set[asyncio.Task[None]] = set()

    async def on_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """Serve a file, or run the step's part before the handshake."""
        url = urlsplit(request.path)
        if not url.path.startswith("/ws/"):
            return self.file(url.path)
        connections = self.names[url.path]
        steps = parse_qs(url.query).get("steps", ["echo"])[0].split(",")
        step = self.steps[ws] = steps[min(len(connections.queries), len(steps) - 1)]
        connections.queries.append(url.query)
        connections.open += 1
        watcher = asyncio.create_task(self.watch(ws, connections))
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

    async def watch(self, ws: ServerConnection, connections: Connections) -> None:
        """Count a connection until it is closed."""
        await ws.wait_closed()
        del self.steps[ws]
        async with connections.changed:
            connections.open -= 1
            connections.changed.notify_all()

    async def on_connection(self, ws: ServerConnection) -> None:
        """Run the step's part after the handshake."""
        assert ws.request is not None
        connections = self.names[urlsplit(ws.request.path).path]
        step, _, code = self.steps[ws].partition(":")
        if step == "close":
            await ws.close(int(code), "requested")
            return
        if step == "abort":
            ws.transport.abort()
            return
        if step == "garbage":
            ws.transport.write(b"\xff\x00")  # A complete frame with a reserved opcode.
        if step == "paused":
            ws.transport.pause_reading()
            await connections.released.wait()
            ws.transport.resume_reading()
        try:
            async for text in ws:
                message = json.loads(text)
                connections.received.append(message)
                await self.answer(ws, message["type"], message["payload"], message)
        except ConnectionClosed:
            pass  # Aborted by either side.

    async def answer(self, ws: ServerConnection, command: str, payload: Any, message: Any) -> None:
        """Run a command, or echo the message."""
        if command == "close":
            await ws.close(payload["code"], payload["reason"])
        elif command == "abort":
            ws.transport.abort()
        elif command == "raw":
            await ws.send(payload["text"])
        elif command == "binary":
            await ws.send(b"\x00{}")
        elif command == "ping":
            await (await ws.ping())
            await ws.send('{"type": "pong"}')
        elif command == "release":
            self.names[payload["name"]].released.set()
        elif command == "report":
            connections = self.names[payload["name"]]
            async with connections.changed:
                await connections.changed.wait_for(lambda: connections.open == payload["open"])
            report = {
                "connections": len(connections.queries),
                "queries": connections.queries,
                "received": connections.received,
            }
            await ws.send(json.dumps({"type": "report", "payload": report}))
        else:
            await ws.send(json.dumps({"type": "echo", "payload": message}))


@contextmanager
def scripted_server(scripts: Mapping[str, Path], policy: str) -> Iterator[str]:
    """Run the server in a thread and return its address, such as ``http://127.0.0.1:1234``.

    Args:
        scripts: Files to serve by path, besides an empty page at ``/``.
        policy: The Content-Security-Policy of all responses.
    """
    files = {path: ("text/javascript", file.read_bytes()) for path, file in scripts.items()}
    files["/"] = ("text/html", PAGE)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stopping = asyncio.Event()
    port = 0

    async def run() -> None:
        nonlocal port
        server = ScriptedServer(files, policy)
        # NOTE: silent handshakes and paused connections end with the server at the latest.
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
            for connections in server.names.values():
                connections.released.set()
            for ws in list(server.steps):
                ws.transport.abort()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    try:
        assert started.wait(START_SECONDS), "the server has not started"
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_SECONDS)
        assert not thread.is_alive(), "the server has not stopped"
        loop.close()
