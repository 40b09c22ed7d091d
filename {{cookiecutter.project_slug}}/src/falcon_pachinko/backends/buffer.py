"""The most recent publications of rooms, for reconnecting clients, within bounds of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import dropwhile, islice

from ..errors import ConfigurationError
from ..history import History, Position
from ..presence import UNKNOWN_CHANGE
from ..publication import RETRACTED, Publication

# The default bound of all histories in a process. It fits one process with 1 GiB of memory.
DEFAULT_MEMORY_BYTES = 64 * 1024 * 1024

# What a message takes besides its encoded size (measured: 171 bytes on CPython 3.11 with 64 bits), and what
# a room with a history takes besides its messages (measured: 1.5 KiB).
MESSAGE_OVERHEAD_BYTES = 176
ROOM_OVERHEAD_BYTES = 1_536

# Clients that reconnect together share their missed messages, built once, up to so many bytes: a message and its
# frame are up to four copies of it.
MAX_RESTORED_BYTES = 4 * 1024 * 1024
RESTORED_COPIES = 4
RESTORED_OVERHEAD_BYTES = 600

# How many messages are read at least where others have been retracted.
MIN_PIECE = 64

# The classes of similar size: within 25 %.
CLASSES_PER_DOUBLING = 4

# Takes the place of a message that has been retracted: no message is encoded like this.
NOTHING = b""


def check_bytes(history_bytes: int) -> int:
    """Return the bound of all histories if it can be used.

    Raises:
        ConfigurationError: It is not above zero.
    """
    if not isinstance(history_bytes, (int, float)) or not history_bytes > 0:
        raise ConfigurationError(
            f"history_bytes is {history_bytes!r}: it must be a number above zero"
        )
    return history_bytes


class HistoryBuffer:
    """Consecutive publications of a room, the newest last, within the bounds of its history.

    A message is stored encoded, once: its position follows from its place, and its frame is built again for
    a client that needs it.

    Attributes:
        size_bytes: The size of the messages, encoded.
        last: The position of the last message added; ``None`` before the first one.

    Args:
        history: The bounds.
        budget: The bound of all histories together.
        room: The name of the room, for the budget's owner.
    """

    __slots__ = (
        "budget",
        "class_end",
        "class_start",
        "history",
        "last",
        "messages",
        "room",
        "size_bytes",
        "size_class",
    )

    def __init__(
        self, history: History, budget: HistoryBudget | None = None, room: str = ""
    ) -> None:
        self.history = history
        self.budget = budget or HistoryBudget()
        self.room = room
        # The time of the process, the time of the publication, the message.
        self.messages: deque[tuple[float, int, bytes]] = deque()
        self.size_bytes = 0
        self.last: Position | None = None
        self.size_class = -1
        self.class_start = self.class_end = 0

    def add(self, publication: Publication, published_at: float) -> None:
        """Append the next publication; drop the oldest ones above the bounds.

        A message that is larger than ``history.room_bytes`` is not stored, nor is anything before it: a
        client that has missed it cannot recover.

        Args:
            publication: A publication with a position.
            published_at: The time of publication in seconds on a monotonic clock.
        """
        position, last, messages = publication.position, self.last, self.messages
        assert position is not None
        assert publication.published_ms is not None
        if messages and (last is None or position != (last.epoch, last.offset + 1)):
            self.clear()
        self.last = position
        history, budget = self.history, self.budget
        # NOTE: a copy, because msgspec leaves up to half of the memory of what it encodes unused.
        encoded = NOTHING if publication.header is RETRACTED else publication.encode()
        messages.append((published_at, publication.published_ms, encoded))
        size_bytes = self.size_bytes + len(encoded)
        budget.size_bytes += len(encoded) + MESSAGE_OVERHEAD_BYTES
        while size_bytes > history.room_bytes or len(messages) > history.messages:
            dropped = len(messages.popleft()[2])
            size_bytes -= dropped
            budget.size_bytes -= dropped + MESSAGE_OVERHEAD_BYTES
        self.size_bytes = size_bytes
        if publication.header.retracts:
            self._retract(publication.header.retracts, position)
        memory_bytes = self.size_bytes + len(messages) * MESSAGE_OVERHEAD_BYTES
        if not self.class_start <= memory_bytes < self.class_end:
            budget.reclassify(self)
        if budget.size_bytes > budget.max_bytes:
            budget.enforce()

    def between(self, since: Position, until: Position, now: float) -> list[Publication] | None:
        """Return the publications after one position up to another; ``None`` if any is missing or too old.

        Args:
            since: A position of the same epoch, not after ``until``.
            until: The current position of the room.
            now: The current time.
        """
        messages, count = self.messages, until.offset - since.offset
        if not 0 <= count <= len(messages):
            return None
        if not count:
            return []
        if self.last != until or since.epoch != until.epoch:
            return None
        missed = list(islice(messages, len(messages) - count, None))
        if missed[0][0] < now - self.history.seconds:
            return None
        return self._restore(until.epoch, since.offset + 1, missed)

    def before(self, end: Position | None, count: int, now: float) -> list[Publication]:
        """Return at most so many of the last publications before a position, or of all, that are not too old."""
        if self.last is None or not self.messages or (end and end.epoch != self.last.epoch):
            return []
        first = self.last.offset - len(self.messages) + 1
        stop = min(self.last.offset + 1, end.offset) if end else self.last.offset + 1
        oldest, size = now - self.history.seconds, count
        found: list[Publication] = []
        while len(found) < count and stop > first:
            start = max(first, stop - size)
            kept = islice(self.messages, start - first, stop - first)
            recent = list(dropwhile(lambda each: each[0] < oldest, kept))
            found[:0] = self._restore(self.last.epoch, stop - len(recent), recent)
            if len(recent) < stop - start:
                break
            stop, size = start, max(count, MIN_PIECE)  # some have been retracted
        return found[max(0, len(found) - count) :]

    def _restore(
        self, epoch: str, first: int, messages: list[tuple[float, int, bytes]]
    ) -> list[Publication]:
        """Return the publications of consecutive messages, shared by the clients that need them now."""
        restored = self.budget.restored.setdefault(epoch, {})
        found = []
        for offset, (_, published_ms, encoded) in enumerate(messages, first):
            if encoded is NOTHING:
                continue
            publication = restored.get(offset)
            if publication is None:
                publication = restored[offset] = Publication.decode(encoded)
                publication.number(Position(epoch, offset), published_ms, shown=True)
                publication.change = UNKNOWN_CHANGE
                self.budget.restored_bytes += (
                    RESTORED_COPIES * len(encoded) + RESTORED_OVERHEAD_BYTES
                )
            found.append(publication)
        if self.budget.restored_bytes > MAX_RESTORED_BYTES:
            self.budget.drop_restored()
        return found

    def _retract(self, positions: Collection[str], current: Position) -> None:
        """Remove the content of messages; those that are not kept have no effect."""
        first = current.offset - len(self.messages) + 1
        for text in positions:
            position = Position.parse(text)
            if position is None or position.epoch != current.epoch or position == current:
                continue
            index = position.offset - first
            if 0 <= index < len(self.messages):
                published_at, published_ms, encoded = self.messages[index]
                self.messages[index] = (published_at, published_ms, NOTHING)
                self.size_bytes -= len(encoded)
                self.budget.size_bytes -= len(encoded)
        self.budget.drop_restored()

    def expire(self, now: float) -> None:
        """Drop publications that are older than the history."""
        messages, oldest = self.messages, now - self.history.seconds
        if messages and messages[0][0] < oldest:
            while messages and messages[0][0] < oldest:
                self._drop_first()
            self.budget.reclassify(self)

    def clear(self) -> None:
        """Drop all publications."""
        while self.messages:
            self._drop_first()
        self.budget.reclassify(self)

    def drop_oldest(self, size_bytes: int) -> None:
        """Drop the oldest publications until so much memory is free, at least one."""
        while self.messages and size_bytes > 0:
            size_bytes -= self._drop_first()
        self.budget.reclassify(self)

    def _drop_first(self) -> int:
        """Drop the oldest publication and return the memory that it took."""
        size = len(self.messages.popleft()[2])
        self.size_bytes -= size
        self.budget.size_bytes -= size + MESSAGE_OVERHEAD_BYTES
        return size + MESSAGE_OVERHEAD_BYTES


class HistoryBudget:
    """The bound of all histories of a process.

    Above it, the oldest messages of the largest history are dropped. The largest one is found in constant
    time: histories are kept in classes of similar size (within 25 %), and change their class rarely.

    Attributes:
        size_bytes: The memory of all histories.
        max_bytes: Its bound.
        restored: The messages that clients have recovered lately, by epoch and offset.
        restored_bytes: The memory of these.

    Args:
        max_bytes: The bound.
        on_emptied: Called with the name of a room whose history has become empty by :meth:`enforce`.
    """

    __slots__ = ("classes", "max_bytes", "on_emptied", "restored", "restored_bytes", "size_bytes")

    def __init__(
        self,
        max_bytes: int = DEFAULT_MEMORY_BYTES,
        on_emptied: Callable[[str], None] = lambda room: None,
    ) -> None:
        self.max_bytes = max_bytes
        self.on_emptied = on_emptied
        self.size_bytes = 0
        self.classes: dict[int, dict[HistoryBuffer, None]] = {}
        self.restored: dict[str, dict[int, Publication]] = {}
        self.restored_bytes = 0

    def reclassify(self, buffer: HistoryBuffer) -> None:
        """Move a history into the class of its size; charge or release what an empty one does not take."""
        known, size_class = buffer.size_class, -1
        buffer.class_start = buffer.class_end = 0
        if buffer.messages:
            memory_bytes = buffer.size_bytes + len(buffer.messages) * MESSAGE_OVERHEAD_BYTES
            shift = max(memory_bytes.bit_length() - 3, 0)
            leading = memory_bytes >> shift  # the first three bits: 4 to 7
            size_class = shift * CLASSES_PER_DOUBLING + leading
            buffer.class_start, buffer.class_end = leading << shift, (leading + 1) << shift
        if known == size_class:
            return
        if known >= 0:
            self.classes[known].pop(buffer)
            if not self.classes[known]:
                del self.classes[known]
        else:
            self.size_bytes += ROOM_OVERHEAD_BYTES
        if size_class >= 0:
            self.classes.setdefault(size_class, {})[buffer] = None
        else:
            self.size_bytes -= ROOM_OVERHEAD_BYTES
        buffer.size_class = size_class

    def drop_restored(self) -> None:
        """Build recovered messages again for the next client."""
        self.restored.clear()
        self.restored_bytes = 0

    def enforce(self) -> None:
        """Drop the oldest messages of the largest histories until the bound holds."""
        while self.size_bytes > self.max_bytes and self.classes:
            largest = next(iter(self.classes[max(self.classes)]))
            largest.drop_oldest(self.size_bytes - self.max_bytes)
            if not largest.messages:
                self.on_emptied(largest.room)
