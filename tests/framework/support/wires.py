"""Clients without a network and a clock that never waits, so that a test decides about every turn.

:class:`PortableWire` speaks raw ASGI, as any server does. :class:`PushWire` feeds bytes to a real
``PushSansIOProtocol`` of uvicorn through a transport that lives in memory.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from falcon_pachinko import App
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol


class SteppedSelector(selectors.SelectSelector):
    """Where an event loop would wait for the world, it goes on at once and moves the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.idle: asyncio.Future[None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.idle is not None:
            self.idle.set_result(None)
            self.idle = None
        elif timeout is None:
            raise RuntimeError("what is awaited never comes: nothing can run, and no timer is set")
        else:
            self.now += timeout
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything can run, then jumps to the next timer.

    Attributes:
        failures: What nobody caught, as the loop's exception handler is told.
    """

    def __init__(self) -> None:
        self.selector = SteppedSelector()
        super().__init__(self.selector)
        self.failures: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.selector.now

    async def settle(self) -> None:
        """Let everything run until only timers are left."""
        self.selector.idle = self.create_future()
        await self.selector.idle


class Wire:
    """One client of an application, seen from outside.

    Attributes:
        task: The application's work for this connection.
        opened: Whether the server has taken the application's ``accept``.
        received: What arrived, in order; JSON strings without their quotes.
        close_code: What the server's close said, ``None`` where none arrived.
        stalled: Whether the client has stopped reading.
        gone: Whether the connection is over for the client, whoever ended it.
        breaches: What the application did that ASGI forbids.
    """

    task: asyncio.Task[None]

    def __init__(self, app: App, path: str, on_open: Callable[[], None]) -> None:
        self.app = app
        self.path = path
        self.on_open = on_open
        self.opened = False
        self.received: list[str] = []
        self.close_code: int | None = None
        self.stalled = False
        self.gone = False
        self.breaches: list[str] = []

    @property
    def in_flight(self) -> int:
        """How many messages the server has taken that the client has not read."""
        raise NotImplementedError

    def connect(self) -> None:
        """Send the handshake."""
        raise NotImplementedError

    def say(self, *texts: str) -> None:
        """Send messages, all at once."""
        raise NotImplementedError

    def close(self, code: int) -> None:
        """Close in order."""
        raise NotImplementedError

    def vanish(self) -> None:
        """Go away without a word."""
        raise NotImplementedError

    def stall(self) -> None:
        """Stop reading."""
        self.stalled = True

    def resume(self) -> None:
        """Read again."""
        raise NotImplementedError

    def open(self) -> None:
        """The server has taken ``accept``; the application goes on in this very step."""
        self.opened = True
        self.on_open()


class PortableWire(Wire):
    """An ASGI server that takes one message after the other and waits while its client does not read.

    Args:
        accept_turns: How many turns of the event loop it takes to accept.
        tells_of_loss: Whether ``send`` raises once the client is gone (ASGI 2.4) or does nothing, as
            older servers do.
    """

    def __init__(
        self,
        app: App,
        path: str,
        on_open: Callable[[], None],
        *,
        accept_turns: int = 0,
        tells_of_loss: bool = True,
    ) -> None:
        super().__init__(app, path, on_open)
        self.accept_turns = accept_turns
        self.tells_of_loss = tells_of_loss
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.moved = asyncio.Event()
        self.sending = 0
        self.closed = False

    @property
    def in_flight(self) -> int:
        return self.sending

    def connect(self) -> None:
        self.events.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "path": self.path,
            "headers": [(b"host", b"127.0.0.1")],
            "query_string": b"",
            "scheme": "ws",
            "subprotocols": [],
        }
        self.task = asyncio.get_running_loop().create_task(
            self.app(scope, self.events.get, self.send)
        )

    async def send(self, event: Mapping[str, Any]) -> None:
        if self.closed:
            self.breaches.append(f"{event} after a close")
        if self.opened and self.sending:
            self.breaches.append(f"{event} while another send goes on")
        if event["type"] == "websocket.accept":
            for _ in range(self.accept_turns):
                await asyncio.sleep(0)
        self.sending += event["type"] == "websocket.send"
        try:
            while self.stalled and not self.gone:
                self.moved.clear()
                await self.moved.wait()
        finally:
            self.sending -= event["type"] == "websocket.send"
        if self.gone and self.tells_of_loss:
            raise OSError("the client is gone")
        if event["type"] == "websocket.accept":
            self.open()
        elif self.gone:
            return
        elif event["type"] == "websocket.close":
            self.closed = True
            self.close_code = event["code"] if self.opened else None
            self.gone = True
            self.events.put_nowait({"type": "websocket.disconnect", "code": 1000})
        else:
            text = event["bytes"].decode() if event.get("text") is None else event["text"]
            self.received.append(text.strip('"'))

    def say(self, *texts: str) -> None:
        for text in texts:
            self.events.put_nowait({"type": "websocket.receive", "text": text})

    def close(self, code: int) -> None:
        self.gone = True
        self.moved.set()
        self.events.put_nowait({"type": "websocket.disconnect", "code": code})

    def vanish(self) -> None:
        self.close(1006)

    def resume(self) -> None:
        self.stalled = False
        self.moved.set()


class WireTransport(asyncio.Transport):
    """A transport to a client in this process; every byte that is not read stays in its buffer.

    It keeps asyncio's rules: the protocol is told to pause above the high-water mark, and learns of
    an end in a later turn.
    """

    def __init__(self, wire: PushWire, high_water_bytes: int) -> None:
        super().__init__()
        self.wire = wire
        self.loop = asyncio.get_running_loop()
        self.high_water_bytes = high_water_bytes
        self.unread = bytearray()
        self.incoming: list[bytes] = []
        self.reading = True
        self.writing_paused = False
        self.closing = False
        self.lost = False

    # What the server calls.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 2), "sockname": ("127.0.0.1", 1)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, self.high_water_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.lost or not data:
            return
        if self.closing:
            self.wire.breaches.append("bytes after the transport's end")
        elif self.wire.stalled or self.unread:
            self.unread += data
            if len(self.unread) > self.high_water_bytes and not self.writing_paused:
                self.writing_paused = True
                self.wire.protocol.pause_writing()
        else:
            self.wire.read(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self.deliver)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.unread:
                self.end(None)

    def abort(self) -> None:
        self.unread.clear()
        self.end(None)

    # What the client does.

    def feed(self, data: bytes) -> None:
        """Bytes of the client arrive as soon as the server reads."""
        self.incoming.append(data)
        self.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        while self.incoming and self.is_reading():
            self.wire.protocol.data_received(self.incoming.pop(0))

    def drain(self) -> None:
        """The client reads all that has waited for it."""
        if self.lost or self.wire.stalled:
            return
        data, self.unread = bytes(self.unread), bytearray()
        self.wire.read(data)
        if self.writing_paused:
            self.writing_paused = False
            self.wire.protocol.resume_writing()
        if self.closing and not self.unread:
            self.end(None)

    def end(self, error: Exception | None) -> None:
        """Tell the protocol, once and in a later turn."""
        self.closing = True
        if not self.lost:
            self.lost = True
            self.wire.gone = True
            self.loop.call_soon(self.wire.protocol.connection_lost, error)


class ObservedProtocol(PushSansIOProtocol):
    """The protocol under test; it tells when it has taken ``accept``."""

    wire: PushWire

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.wire.open()


class PushWire(Wire):
    """A real ``PushSansIOProtocol``, and a client of the library ``websockets`` that speaks bytes with it.

    Args:
        config: Of uvicorn, for the application.
        deflate: Whether the client offers compression.
        high_water_bytes: How much the transport holds before it makes the protocol wait.
    """

    def __init__(
        self,
        app: App,
        path: str,
        on_open: Callable[[], None],
        *,
        config: uvicorn.Config,
        deflate: bool = False,
        high_water_bytes: int = 0,
    ) -> None:
        super().__init__(app, path, on_open)
        self.config = config
        self.high_water_bytes = high_water_bytes
        self.client = ClientProtocol(
            parse_uri(f"ws://127.0.0.1{path}"),
            extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
        )
        self.protocol: ObservedProtocol
        self.transport: WireTransport

    @property
    def in_flight(self) -> int:
        return count_messages(bytes(self.transport.unread))

    def connect(self) -> None:
        state = ServerState()
        self.protocol = ObservedProtocol(self.config, state, {})
        self.protocol.wire = self
        self.transport = WireTransport(self, self.high_water_bytes)
        self.protocol.connection_made(self.transport)
        self.client.send_request(self.client.connect())
        for data in self.client.data_to_send():
            self.protocol.data_received(data)
        (self.task,) = state.tasks

    def read(self, data: bytes) -> None:
        """Take what the server has written, and answer what the protocol wants answered."""
        self.client.receive_data(data)
        for event in self.client.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.received.append(bytes(event.data).decode().strip('"'))
        refused = self.client.handshake_exc
        if refused is not None and not isinstance(refused, InvalidStatus):
            self.breaches.append(f"no answer to a handshake: {refused!r}")
        if self.client.close_rcvd is not None and self.close_code is None and not self.gone:
            self.close_code = self.client.close_rcvd.code
        if self.client.parser_exc is not None:
            self.breaches.append(f"bytes that are no frames: {self.client.parser_exc!r}")
        self.write()

    def write(self) -> None:
        """Let go of what the client's protocol has to say; an empty piece ends its side."""
        for data in self.client.data_to_send():
            if data and not self.transport.lost:
                self.transport.feed(data)

    def say(self, *texts: str) -> None:
        if self.client.state is State.OPEN:
            for text in texts:
                self.client.send_text(text.encode())
            frames = [data for data in self.client.data_to_send() if data]
            self.transport.feed(b"".join(frames))

    def close(self, code: int) -> None:
        if self.client.state is State.OPEN:
            self.client.send_close(code)
            self.write()
            self.gone = True
        else:
            self.vanish()

    def vanish(self) -> None:
        self.gone = True
        self.transport.unread.clear()
        self.transport.end(ConnectionResetError("the client has vanished"))

    def resume(self) -> None:
        self.stalled = False
        self.transport.loop.call_soon(self.transport.drain)


def count_messages(frames: bytes) -> int:
    """How many data frames a server has written (RFC 6455 section 5.2): not masked, each a message."""
    count = 0
    while frames:
        count += (frames[0] & 0x0F) in DATA_OPCODES
        size, start = frames[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(frames[2:start], "big")
        frames = frames[start + size :]
    return count
