"""Inbound messages of a connection that is in several rooms, distributed to the inboxes of its channels."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..limits import DEFAULT_LIMITS, Limits
from ..messages import size_bytes_of
from .counts import Received
from .inbox import Inbox, Message, poll_disconnect
from .replies import request_of

# The channels of a connection together keep this many times what one of them may.
SLOW_CHANNELS = 4
ROOM_KEY = '"room"'


class Demultiplexer:
    """The inbox of a connection: a message with a room goes to its channel, the others to the reader.

    The reader waits for a channel that is full, so that nothing more is read from a client which floods a room.

    Args:
        inbox: The inbox that receives all messages.

    Attributes:
        channels: The inboxes of the channels by the client's names of their rooms.
        count: The number of messages that wait in all of them.
        waiting_bytes: Their size.
    """

    __slots__ = ("channels", "count", "inbox", "space", "waiting_bytes")

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.channels: dict[str, ChannelInbox] = {}
        self.count = 0
        self.waiting_bytes = 0
        self.space: asyncio.Future[None] | None = None

    @property
    def limits(self) -> Limits:
        """The bounds of the connection."""
        return self.inbox.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.inbox.limits = limits

    @property
    def received(self) -> int:
        """The number of messages from the client, to all rooms."""
        return self.inbox.received

    @property
    def received_bytes(self) -> int:
        """Their size."""
        return self.inbox.received_bytes

    @property
    def full(self) -> bool:
        """Whether nothing more is read from the client for now."""
        return self.inbox.full

    @property
    def channels_full(self) -> bool:
        """Whether the channels together have reached their bound."""
        limits = self.limits
        return (
            self.count >= SLOW_CHANNELS * limits.inbox_messages
            or self.waiting_bytes >= SLOW_CHANNELS * limits.inbox_bytes
        )

    @property
    def size_bytes(self) -> int:
        """The size of all data that waits for the reader or for a handler of a channel."""
        return self.inbox.size_bytes + self.waiting_bytes

    def pause(self) -> None:
        """Read nothing more from the client until :meth:`resume`."""
        self.inbox.pause()

    def resume(self) -> None:
        """End a pause. Idempotent."""
        self.inbox.resume()

    def expect_reply(self, take: Callable[[Message], bool]) -> None:
        """Offer each message to ``take`` as it is read."""
        self.inbox.expect_reply(take)

    def start_watching(self) -> None:
        """Detect a disconnect while ``on_connect`` runs."""
        self.inbox.start_watching()

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened."""
        await self.inbox.stop_watching()

    def start(self) -> None:
        """Make the calling task the reader."""
        self.inbox.start()

    async def next(self) -> Message | None:
        """Wait for the next message that is not for a channel; pass on those that are."""
        while (message := await self.inbox.next()) is not None:
            channel = self._channel_of(message)
            if channel is None:
                return message
            await channel.put(message)
        return None

    def _channel_of(self, message: Message) -> ChannelInbox | None:
        # PERF: the messages of the connection itself are not decoded twice.
        if isinstance(message, bytes) or ROOM_KEY not in message:
            return None
        if size_bytes_of(message) > self.limits.max_message_bytes:
            return None
        room = request_of(message).room
        return self.channels.get(room) if isinstance(room, str) else None

    async def wait_space(self) -> None:
        """Wait until a message has left a channel, or a channel has ended."""
        self.space = asyncio.get_running_loop().create_future()
        await self.space

    def notify_space(self) -> None:
        """Let the reader continue."""
        space, self.space = self.space, None
        if space is not None and not space.done():
            space.set_result(None)

    def interrupt(self) -> None:
        """Wake the reader and those of the channels; running handlers are not disturbed."""
        self.inbox.interrupt()
        for channel in self.channels.values():
            channel.interrupt()

    def close(self) -> None:
        """Stop reading."""
        self.inbox.close()


class ChannelInbox(Received):
    """The messages of a client to one room: the promises of :class:`.inbox.Inbox`.

    Args:
        demultiplexer: Puts the messages in.
    """

    __slots__ = (
        "demultiplexer",
        "ended",
        "interrupted",
        "limits",
        "paused",
        "queue",
        "size_bytes",
        "take",
        "waiter",
    )

    def __init__(self, demultiplexer: Demultiplexer) -> None:
        super().__init__()
        self.demultiplexer = demultiplexer
        self.limits = DEFAULT_LIMITS
        self.queue: deque[Message] = deque()
        self.size_bytes = 0
        self.take: Callable[[Message], bool] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.paused = False
        self.interrupted = False
        self.ended = False

    @property
    def full(self) -> bool:
        """Whether the reader of the connection waits for this channel."""
        limits = self.limits
        return (
            self.paused
            or len(self.queue) >= limits.inbox_messages
            or self.size_bytes >= limits.inbox_bytes
        )

    async def put(self, message: Message) -> None:
        """Append a message when there is space; drop it at the end of the channel."""
        self.received += 1
        self.received_bytes += size_bytes_of(message)
        if self.take is not None and self.take(message):
            return
        while not self.interrupted and (self.full or self.demultiplexer.channels_full):
            await self.demultiplexer.wait_space()
        if not self.interrupted:
            self.queue.append(message)
            self._count(1, size_bytes_of(message))
            self._wake()

    def _count(self, messages: int, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self.demultiplexer.count += messages
        self.demultiplexer.waiting_bytes += size_bytes

    def pause(self) -> None:
        """Let the reader of the connection wait at the next message until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """End a pause."""
        self.paused = False
        self.demultiplexer.notify_space()

    def expect_reply(self, take: Callable[[Message], bool]) -> None:
        """Offer each message of this room to ``take``."""
        self.take = take

    def start_watching(self) -> None:
        """Do nothing: the connection reports a disconnect."""

    async def stop_watching(self) -> None:
        """Let the event loop report a disconnect that has happened."""
        await poll_disconnect()

    def start(self) -> None:
        """Do nothing: the task that calls :meth:`next` is the reader."""

    async def next(self) -> Message | None:
        """Wait for the next message; return ``None`` at the end or after :meth:`interrupt`."""
        while not (self.queue or self.interrupted or self.ended):
            self.waiter = waiter = asyncio.get_running_loop().create_future()
            await waiter
        if self.interrupted or not self.queue:
            return None
        message = self.queue.popleft()
        self._count(-1, -size_bytes_of(message))
        self.demultiplexer.notify_space()
        return message

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self) -> None:
        """Receive no more: the reader gets the messages that wait, then the end."""
        self.ended = True
        self._wake()

    def interrupt(self) -> None:
        """Wake the reader if it waits for a message, and drop the messages that wait."""
        self.interrupted = True
        self._count(-len(self.queue), -self.size_bytes)
        self.queue.clear()
        self._wake()
        self.demultiplexer.notify_space()

    def close(self) -> None:
        """Stop reading."""
        self.interrupt()
