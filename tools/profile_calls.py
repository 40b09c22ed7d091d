"""Count the framework's Python calls on the path of one text frame to another client's socket.

Two clients share a room, in memory, on uvicorn's protocol with the push extension. The protocol of
the first one receives a masked frame; ``sys.setprofile`` records the framework's calls until the
transport of the second one is written to. The resumption of a coroutine counts as a call. Calls of
uvicorn, of other libraries and of the application's handler do not count.

Run it as ``PYTHONPATH='{{cookiecutter.project_slug}}/src' python -m tools.profile_calls``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, NamedTuple, cast

import falcon.asgi
import msgspec
import uvicorn
from uvicorn.server import ServerState

import falcon_pachinko
from falcon_pachinko import Message, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol

PACKAGE = Path(falcon_pachinko.__file__).parent
WARM_UP_FRAMES = 5
IDLE_LOOP_ITERATIONS = 10
MAX_LOOP_ITERATIONS = 50

HANDSHAKE = (
    b"GET /room HTTP/1.1\r\nHost: a:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Call(NamedTuple):
    """A call of a function of the framework."""

    function: str
    file: str
    """Relative to the package."""


class Post(msgspec.Struct, frozen=True):
    """Payload of ``post``."""

    text: str


class Posted(Message, frozen=True):
    """A text was posted to the room."""

    text: str


class RoomResource(WebSocketResource):
    """A room of all connections."""

    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:
        await self.join_room("room")
        return True

    @handles_message("post")
    async def post(self, ws: WebSocketLike, payload: Post) -> None:
        await self.broadcast_to_room("room", Posted(text=payload.text))


class Recorder:
    """A profile hook that keeps the framework's calls in order."""

    def __init__(self) -> None:
        self.codes: list[CodeType] = []

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            self.codes.append(frame.f_code)

    def calls(self) -> list[Call]:
        """Return the calls of functions that lie in the package."""
        return [
            Call(code.co_qualname, str(Path(code.co_filename).relative_to(PACKAGE)))
            for code in self.codes
            if Path(code.co_filename).is_relative_to(PACKAGE)
        ]


class MemoryTransport:
    """The part of a transport that uvicorn and the framework use; counts the writes."""

    def __init__(self) -> None:
        self.writes = 0
        self.closing = False
        self.profiled = False

    def write(self, data: bytes) -> None:
        if self.profiled:
            sys.setprofile(None)
        self.writes += 1

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        address = ("127.0.0.1", 1)
        if name == "socket":
            return SimpleNamespace(
                family=2,
                fileno=lambda: -1,
                getsockname=lambda: address,
                getpeername=lambda: address,
            )
        return address if name in ("sockname", "peername") else default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def ignore(self, *args: object, **named: object) -> None:
        """Do nothing."""

    set_write_buffer_limits = pause_reading = resume_reading = get_protocol = set_protocol = ignore


class MemoryClient:
    """A client whose frames are fed to the protocol and whose socket is a memory transport."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        self.transport = cast(Any, MemoryTransport())
        self.protocol = PushSansIOProtocol(config=config, server_state=state, app_state={})
        self.protocol.connection_made(self.transport)
        self.protocol.data_received(HANDSHAKE)

    async def wait_written(self, writes: int) -> None:
        """Wait until the transport has been written to so often."""
        for _ in range(MAX_LOOP_ITERATIONS):
            if self.transport.writes >= writes:
                return
            await asyncio.sleep(0)
        raise TimeoutError(f"{self.transport.writes} of {writes} writes")


def masked_frame(text: bytes) -> bytes:
    """Return a client's text frame of less than 126 bytes (RFC 6455, section 5.2)."""
    mask = b"\x12\x34\x56\x78"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    return bytes((0x81, 0x80 | len(text))) + mask + masked


async def record_delivery(frames_before: int) -> list[Call]:
    """Deliver a frame between two idle clients and return the framework's calls in order."""
    app = install(falcon.asgi.App())
    app.add_websocket_route("/room", RoomResource)
    app.ws_lifespan.checked = True  # as after the start by a server
    config = uvicorn.Config(app, ws_per_message_deflate=False, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    sender, receiver = clients = [MemoryClient(config, state) for _ in range(2)]
    for client in clients:
        await client.wait_written(1)
    frame = masked_frame(b'{"type":"post","payload":{"text":"hello"}}')
    for count in range(frames_before):
        sender.protocol.data_received(frame)
        await receiver.wait_written(count + 2)
    for _ in range(IDLE_LOOP_ITERATIONS):
        await asyncio.sleep(0)

    recorder = Recorder()
    receiver.transport.profiled = True
    sys.setprofile(recorder)
    try:
        sender.protocol.data_received(frame)
        await receiver.wait_written(frames_before + 2)
    finally:
        sys.setprofile(None)
    for client in clients:
        client.protocol.connection_lost(None)
    for task in state.tasks.copy():
        await task
    return recorder.calls()


def measure(frames_before: int = 0) -> tuple[list[Call], list[str]]:
    """Return the calls of one delivery in order, and their files, each once.

    Args:
        frames_before: The number of frames that the room delivers before. The first frame also
            fills the caches of the message type and of the room, so it takes the most calls.
    """
    with asyncio.Runner(debug=False) as runner:
        calls = runner.run(record_delivery(frames_before))
    return calls, list(dict.fromkeys(call.file for call in calls))


def main() -> None:
    calls, files = measure()
    width = max(len(call.function) for call in calls)
    for number, call in enumerate(calls, 1):
        print(f"{number:3}  {call.function:{width}}  {call.file}")
    print(f"first frame of a room: {len(calls)} calls in {len(files)} files")
    calls, files = measure(WARM_UP_FRAMES)
    print(f"later frames: {len(calls)} calls in {len(files)} files")


if __name__ == "__main__":
    main()
