"""The fast way on uvicorn: messages as they are parsed, finished frames written to the transport.

Give the protocol to uvicorn as ``ws=PushProtocol``; nothing else is needed. It offers itself to the
application in ``scope["extensions"]``. Where that is missing, because another server or another
protocol class is in use, messages go through the server's ``receive`` and ``send``; the promises are
the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..close_codes import ABNORMAL_CLOSURE, INVALID_TEXT
from ..connection.inbox import Event, Message, is_full, look
from ..connection.outbox import PUSH_EXTENSION, OnFailure, Send
from ..limits import DEFAULT_LIMITS
from .handshake_queue import Newcomer
from .outbox import PushOutbox

# What of uvicorn's class the way past its ``receive`` and ``send`` rests on (uvicorn 0.54).
NEEDED = (
    "close_sent",
    "conn",
    "curr_msg_data_type",
    "disconnected",
    "frames",
    "handle_parser_exception",
    "keepalive_timeout",
    "loop",
    "on_task_complete",
    "pending_ping_payload",
    "ping_timeout",
    "pong_timer",
    "queue",
    "read_paused",
    "schedule_ping",
    "send_receive_event_to_app",
    "transport",
    "writable",
)


class PushSansIOProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol on websockets' sans-I/O layer, with a way past its queue and its ``send``.

    Where uvicorn's class is not the one that it knows, it offers nothing and is that class.
    """

    inbox: PushInbox | None = None
    outbox: PushOutbox | None = None
    finished = False

    def handle_connect(self, event: Any) -> None:
        """Offer both ways; the application's task begins in a later turn of the event loop."""
        known = all(hasattr(self, name) for name in NEEDED)
        if known:
            self.inbox = PushInbox(self)
            self.queue = self.inbox  # type: ignore[assignment]  # it has what uvicorn calls
        super().handle_connect(event)
        if known and not self.close_sent:
            self.scope["extensions"][PUSH_EXTENSION] = {
                "make_inbox": self.inbox.attach,  # type: ignore[union-attr]
                "make_outbox": self.make_outbox,
                "receive": self.receive,
                "send": self.send,
            }

    def send_500_response(self) -> None:
        """Say that nobody has answered the handshake, unless the client has hung up before."""
        if not self.conn.eof_sent:
            super().send_500_response()

    def make_outbox(self, send: Send, on_failure: OnFailure) -> PushOutbox:
        """The outbox of this connection's only client."""
        self.outbox = PushOutbox(self.loop, self.transport, self.send_at_once(send), on_failure)
        return self.outbox

    def send_at_once(self, send: Send) -> Send:
        """uvicorn's ``send`` for what needs next to no room: it does not wait for any."""

        def send_now(event: Event) -> Awaitable[None]:
            self.writable.set()
            return send(event)

        return send_now

    def send_receive_event_to_app(self) -> None:
        """Hand over a message that is complete."""
        if self.inbox is None:
            super().send_receive_event_to_app()
            return
        frames, self.frames = self.frames, []
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.inbox.feed(bytes(data))
            return
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            self.conn.fail(INVALID_TEXT, f"invalid UTF-8 at byte {error.start}")
            self.handle_parser_exception()
        else:
            self.inbox.feed(text)

    def handle_parser_exception(self) -> None:
        """A client has broken the protocol; before its handshake is answered there is nothing to close yet."""
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
        else:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
            self.transport.close()

    def keepalive_timeout(self) -> None:
        """No pong came in time; one that we have not read yet may still be on its way."""
        if self.inbox is not None and self.read_paused:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
            if self.transport.get_write_buffer_size():
                # A client that does not read holds up its own close for ever.
                self.transport.abort()

    def read_on(self) -> None:
        """Read again after a pause, and give the pong of a client that had to wait its time anew."""
        self.read_paused = False
        self.transport.resume_reading()
        if self.pong_timer is not None and self.ping_timeout is not None:
            self.pong_timer.cancel()
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.resume()

    def shutdown(self) -> None:
        """The server stops; where a close is under way already, uvicorn's own would fail and stop no one else."""
        if not self.transport.is_closing():
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody has to wait for it any more."""
        super().connection_lost(exc)
        if self.outbox is not None:
            self.outbox.lose()
        self.let_go()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done with the connection."""
        super().on_task_complete(task)
        self.finished = True
        self.let_go()

    def let_go(self) -> None:
        """Free all of a connection that has ended: what holds each other waits for the collector, which is slow."""
        if self.inbox is not None and self.finished and self.disconnected:
            self.scope["extensions"].clear()
            self.inbox = self.outbox = None
            self.queue = asyncio.Queue()


class PushProtocol(Newcomer):
    """What uvicorn gets as ``ws=PushProtocol``: a client that waits for its turn, and then has the fast way."""

    protocol_class = PushSansIOProtocol


class PushInbox:
    """Messages of one client as they are parsed: the promises of ``inbox.AnyInbox``.

    It stands in the place of uvicorn's queue of events (``put_nowait``, ``get``, ``empty``). uvicorn
    stops reading after each message until the application asks for the next; here it goes on until the
    bound of the limits is reached.
    """

    __slots__ = ("events", "interrupted", "limits", "on_disconnect", "protocol", "waiter")

    def __init__(self, protocol: PushSansIOProtocol) -> None:
        self.protocol = protocol
        self.events: list[Message | Event] = []
        self.limits = DEFAULT_LIMITS
        self.on_disconnect: Callable[[Event], None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.interrupted = False

    def attach(self, on_disconnect: Callable[[Event], None]) -> PushInbox:
        """Tell somebody when the client is known to be gone."""
        self.on_disconnect = on_disconnect
        for event in self.events:
            self.notice(event)
        return self

    def notice(self, event: Message | Event) -> None:
        """See a disconnect before its turn comes."""
        if isinstance(event, (str, bytes)) or self.on_disconnect is None:
            return
        if event["type"] == "websocket.disconnect":
            self.on_disconnect(event)

    # What uvicorn calls.

    def put_nowait(self, event: Event) -> None:
        """Add an event of uvicorn's own making."""
        self.events.append(event)
        self.notice(event)
        self.wake()

    async def get(self) -> Event:
        """The next event: what ``receive`` gives to Falcon."""
        while not self.events:
            await self.arrival()
        event = self.events.pop(0)
        if self.protocol.read_paused and not self.events:
            self.protocol.read_on()
        if isinstance(event, str):
            return {"type": "websocket.receive", "text": event}
        if isinstance(event, bytes):
            return {"type": "websocket.receive", "bytes": event}
        return event

    def empty(self) -> bool:
        """Whether nothing is there."""
        return not self.events

    # What the protocol and the connection call.

    def feed(self, message: Message) -> None:
        """Add a message; where too many wait for a busy handler, the client has to wait too."""
        self.events.append(message)
        if self.waiter is not None:
            self.wake()
        elif self.full and not self.protocol.read_paused:
            self.protocol.read_paused = True
            self.protocol.transport.pause_reading()

    @property
    def full(self) -> bool:
        """Whether the client has to wait now."""
        return is_full(self.events, self.limits)

    def arrival(self) -> asyncio.Future[None]:
        """What is done when something comes."""
        self.waiter = waiter = self.protocol.loop.create_future()
        return waiter

    def wake(self) -> None:
        """Let the reader go on."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def watch(self) -> None:
        """Nothing to do: uvicorn tells us at once."""

    async def stop_watching(self) -> None:
        """Let the event loop have a look at the client."""
        await look()

    def open(self) -> None:
        """Nothing to do: whoever asks for the next one is the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; ``None`` once there is no more, or after an interruption."""
        while not self.events:
            if self.interrupted:
                return None
            await self.arrival()
        if self.interrupted:
            return None
        message = self.events.pop(0)
        if self.protocol.read_paused and not self.events:
            self.protocol.read_on()
        if isinstance(message, (str, bytes)):
            return message
        self.interrupted = True
        return None

    def interrupt(self) -> None:
        """Wake the reader, if it waits for something to come; a running handler is left alone."""
        self.interrupted = True
        self.wake()

    def close(self) -> None:
        """Read no more: what still comes is dropped."""
        self.interrupted = True
        self.events.clear()
        self.on_disconnect = None
