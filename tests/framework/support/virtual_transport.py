"""Clients without a network and an event loop with a virtual clock: tests control each loop iteration.

:class:`PortableClient` speaks raw ASGI, as any server does. :class:`PushClient` feeds bytes to a real
``PushSansIOProtocol`` of uvicorn through a transport in memory.
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
    """A selector that never waits: it advances the clock to the next timer instead."""

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
            raise RuntimeError("deadlock: no callback can run, and no timer is set")
        else:
            self.now += timeout
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while a callback can run, then jumps to the next timer.

    Attributes:
        failures: The contexts passed to the loop's exception handler.
    """

    def __init__(self) -> None:
        self.selector = SteppedSelector()
        super().__init__(self.selector)
        self.failures: list[Mapping[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.selector.now

    async def run_until_idle(self) -> None:
        """Run until only timers remain."""
        self.selector.idle = self.create_future()
        await self.selector.idle


class VirtualClient:
    """One client of an application, seen from outside.

    Attributes:
        task: The application's task for this connection.
        opened: Whether the server has accepted the connection.
        received: The received messages in order; JSON strings without their quotes.
        close_code: The code of the server's close; ``None`` without one.
        stalled: Whether the client has stopped reading.
        gone: Whether the connection is over for the client.
        violations: What the application did against the ASGI specification.
    """

    task: asyncio.Task[None]

    def __init__(self, app: App, path: str, on_open: Callable[[], None]) -> None:
        self.app = app
        app.ws_lifespan.checked = True  # as after the start by a server
        self.path = path
        self.on_open = on_open
        self.opened = False
        self.received: list[str] = []
        self.close_code: int | None = None
        self.stalled = False
        self.gone = False
        self.violations: list[str] = []

    @property
    def in_flight(self) -> int:
        """The number of messages that the server has accepted and the client has not read."""
        raise NotImplementedError

    @property
    def is_read(self) -> bool:
        """Whether the server reads from the client."""
        return True

    def connect(self) -> None:
        """Send the handshake."""
        raise NotImplementedError

    def send_texts(self, *texts: str) -> None:
        """Send text messages in one loop iteration."""
        raise NotImplementedError

    def close(self, code: int) -> None:
        """Send a close frame."""
        raise NotImplementedError

    def vanish(self) -> None:
        """Drop the connection."""
        raise NotImplementedError

    def stall(self) -> None:
        """Stop reading."""
        self.stalled = True

    def resume(self) -> None:
        """Continue to read."""
        raise NotImplementedError

    def on_accepted(self) -> None:
        """Record that the server has accepted; called within the iteration in which the application continues."""
        self.opened = True
        self.on_open()


class PortableClient(VirtualClient):
    """An ASGI server that handles one message at a time and waits while its client does not read.

    Args:
        accept_iterations: The number of loop iterations that accepting takes.
        raises_after_loss: Whether ``send`` raises once the client is gone (ASGI 2.4), or does nothing, as in older servers.
    """

    def __init__(
        self,
        app: App,
        path: str,
        on_open: Callable[[], None],
        *,
        accept_iterations: int = 0,
        raises_after_loss: bool = True,
    ) -> None:
        super().__init__(app, path, on_open)
        self.accept_iterations = accept_iterations
        self.raises_after_loss = raises_after_loss
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
            self.app(scope, self.events.get, self.asgi_send)
        )

    async def asgi_send(self, event: Mapping[str, Any]) -> None:
        if self.closed:
            self.violations.append(f"{event} after a close")
        if self.opened and self.sending:
            self.violations.append(f"{event} while another send goes on")
        if event["type"] == "websocket.accept":
            for _ in range(self.accept_iterations):
                await asyncio.sleep(0)
        self.sending += event["type"] == "websocket.send"
        try:
            while self.stalled and not self.gone:
                self.moved.clear()
                await self.moved.wait()
        finally:
            self.sending -= event["type"] == "websocket.send"
        if self.gone and self.raises_after_loss:
            raise OSError("the client is gone")
        if event["type"] == "websocket.accept":
            self.on_accepted()
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

    def send_texts(self, *texts: str) -> None:
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


class VirtualTransport(asyncio.Transport):
    """A transport to a client in this process, whose buffer holds all bytes that the client has not read.

    It keeps asyncio's rules: the protocol is paused above the high-water mark, and learns of a loss in a later loop
    iteration.
    """

    def __init__(self, client: PushClient, high_water_bytes: int) -> None:
        super().__init__()
        self.client = client
        self.loop = asyncio.get_running_loop()
        self.high_water_bytes = high_water_bytes
        self.unread = bytearray()
        self.incoming: list[bytes] = []
        self.reading = True
        self.writing_paused = False
        self.closing = False
        self.eof = False
        self.lost = False

    # Called by the server.

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
        if self.closing or self.eof:
            self.client.violations.append("bytes after the end of the transport")
        elif self.client.stalled or self.unread:
            self.unread += data
            if len(self.unread) > self.high_water_bytes and not self.writing_paused:
                self.writing_paused = True
                self.client.protocol.pause_writing()
        else:
            self.client.read(bytes(data))

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

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End the output; the client ends its side when it has read everything."""
        self.eof = True
        if not self.unread:
            self.end(None)

    def abort(self) -> None:
        self.unread.clear()
        self.end(None)

    # Called by the client.

    def feed(self, data: bytes) -> None:
        """Deliver bytes of the client as soon as the server reads."""
        self.incoming.append(data)
        self.loop.call_soon(self.deliver)

    def deliver(self) -> None:
        while self.incoming and self.is_reading():
            self.client.protocol.data_received(self.incoming.pop(0))

    def drain(self) -> None:
        """Let the client read the whole buffer."""
        if self.lost or self.client.stalled:
            return
        data, self.unread = bytes(self.unread), bytearray()
        self.client.read(data)
        if self.writing_paused:
            self.writing_paused = False
            self.client.protocol.resume_writing()
        if (self.closing or self.eof) and not self.unread:
            self.end(None)

    def end(self, error: Exception | None) -> None:
        """Report the loss to the protocol, once and in a later iteration."""
        self.closing = True
        if not self.lost:
            self.lost = True
            self.client.gone = True
            self.loop.call_soon(self.client.protocol.connection_lost, error)


class ObservedProtocol(PushSansIOProtocol):
    """The protocol under test; it reports when it has accepted."""

    virtual_client: PushClient

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.virtual_client.on_accepted()


def as_rebuilt(request: bytes) -> bytes:
    """Return a request as uvicorn's HTTP protocol passes it on: with the names of headers in lower case."""
    first, *lines = request.split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    return b"\r\n".join([first, *(name.lower() + colon + value for name, colon, value in pairs)])


class PushClient(VirtualClient):
    """A real ``PushSansIOProtocol``, and a client of the library ``websockets`` that exchanges bytes with it.

    Args:
        config: uvicorn's configuration of the application.
        deflate: Whether the client offers compression.
        accelerated: Whether plain text frames are read without websockets' parser.
        high_water_bytes: The size of the buffer above which the protocol is paused.
    """

    def __init__(
        self,
        app: App,
        path: str,
        on_open: Callable[[], None],
        *,
        config: uvicorn.Config,
        deflate: bool = False,
        accelerated: bool = True,
        high_water_bytes: int = 0,
    ) -> None:
        super().__init__(app, path, on_open)
        self.accelerated = accelerated
        self.config = config
        self.high_water_bytes = high_water_bytes
        self.protocol_client = ClientProtocol(
            parse_uri(f"ws://127.0.0.1{path}"),
            extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
        )
        self.protocol: ObservedProtocol
        self.transport: VirtualTransport

    @property
    def in_flight(self) -> int:
        return count_messages(bytes(self.transport.unread))

    @property
    def is_read(self) -> bool:
        return self.transport.reading

    def connect(self) -> None:
        state = ServerState()
        self.protocol = ObservedProtocol(self.config, state, {})
        self.protocol.virtual_client = self
        self.protocol.accelerated = self.accelerated
        self.transport = VirtualTransport(self, self.high_water_bytes)
        self.protocol.connection_made(self.transport)
        self.protocol_client.send_request(self.protocol_client.connect())
        (request,) = self.protocol_client.data_to_send()
        self.protocol.receive_handshake(as_rebuilt(request), counted=False)
        (self.task,) = state.tasks

    def read(self, data: bytes) -> None:
        """Handle bytes of the server, and send the replies of the client protocol."""
        self.protocol_client.receive_data(data)
        for event in self.protocol_client.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.received.append(bytes(event.data).decode().strip('"'))
        refused = self.protocol_client.handshake_exc
        if refused is not None and not isinstance(refused, InvalidStatus):
            self.violations.append(f"no valid handshake response: {refused!r}")
        if (
            self.protocol_client.close_rcvd is not None
            and self.close_code is None
            and not self.gone
        ):
            self.close_code = self.protocol_client.close_rcvd.code
        if self.protocol_client.parser_exc is not None:
            self.violations.append(
                f"bytes that are not frames: {self.protocol_client.parser_exc!r}"
            )
        self.write()

    def write(self) -> None:
        """Send the output of the client protocol; an empty piece of it ends its side."""
        for data in self.protocol_client.data_to_send():
            if data and not self.transport.lost:
                self.transport.feed(data)

    def send_texts(self, *texts: str) -> None:
        if self.protocol_client.state is State.OPEN:
            for text in texts:
                self.protocol_client.send_text(text.encode())
            frames = [data for data in self.protocol_client.data_to_send() if data]
            self.transport.feed(b"".join(frames))

    def close(self, code: int) -> None:
        if self.protocol_client.state is State.OPEN:
            self.protocol_client.send_close(code)
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
    """Count the data frames that a server has written (RFC 6455 section 5.2): not masked, one per message."""
    count = 0
    while frames:
        count += (frames[0] & 0x0F) in DATA_OPCODES
        size, start = frames[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(frames[2:start], "big")
        frames = frames[start + size :]
    return count
