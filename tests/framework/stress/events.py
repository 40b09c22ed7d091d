"""The events of a page, from its load to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# The number of events in an excerpt.
EXCERPT_EVENTS = 12


@dataclass(frozen=True, slots=True)
class Opened:
    """A page has opened a connection.

    Attributes:
        at: The time.
        node: The number of the node.
        since: The offset that the page knows of each epoch.
    """

    at: float
    node: int
    since: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Positioned:
    """A page received a position; ``recovered`` is ``None`` if the server sent no such field."""

    at: float
    epoch: str
    offset: int
    recovered: bool | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A page received a message; ``epoch`` is empty for one without a position."""

    at: float
    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A page received the list of a room's members.

    Attributes:
        at: The time.
        room: The room.
        users: The members.
        epoch: The epoch of the position to which the list belongs; empty if the position was unknown.
        offset: The offset of that position.
        is_partial: Whether Redis was unavailable, so that the list has the users of one node only.
    """

    at: float
    room: str
    users: tuple[str, ...]
    epoch: str = ""
    offset: int = 0
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """A page has asked to leave its rooms: from now on nothing is guaranteed to it, nor about its user."""

    at: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A page's connection has ended."""

    at: float
    code: int


Event = Opened | Positioned | Received | Listed | Left | Closed


class Visit(NamedTuple):
    """One connection of a page.

    Attributes:
        started_at: Its start.
        end: Its end; infinity while it is open.
        node: The number of the node.
        left: Whether it ended by leaving the rooms.
    """

    started_at: float
    end: float
    node: int
    left: bool


@dataclass
class Page:
    """The events of a page, from its load to its end, over all of its connections.

    Attributes:
        name: A unique name.
        user: Its user.
        rooms: The rooms that it joins.
        events: In the order of their arrival.
    """

    name: str
    user: str
    rooms: tuple[str, ...]
    events: list[Event] = field(default_factory=list)

    def visits(self) -> Iterator[Visit]:
        """Return its connections in order."""
        opened: Opened | None = None
        for event in self.events:
            if isinstance(event, Opened):
                opened = event
            elif isinstance(event, (Left, Closed)) and opened is not None:
                yield Visit(opened.at, event.at, opened.node, isinstance(event, Left))
                opened = None
        if opened is not None:
            yield Visit(opened.at, float("inf"), opened.node, False)


def excluded(page: Page, received: Received) -> bool:
    """Return whether a page is excluded from a message."""
    exclude = received.payload.get("exclude", "")
    if exclude == "user":
        return bool(received.payload["user"] == page.user)
    return bool(exclude == "self" and received.payload["sender"] == page.name)


def about_itself(page: Page, received: Received) -> bool:
    """Return whether it is a presence message about the page's own user, which a page may receive or not."""
    return received.type in ("joined", "left") and received.payload["user"] == page.user


def excerpt(page: Page, index: int) -> tuple[str, ...]:
    """Return the events around an index, one per line."""
    start = max(0, index - EXCERPT_EVENTS)
    shown = page.events[start : index + EXCERPT_EVENTS // 2]
    return tuple(
        f"{'->' if start + number == index else '  '} {brief(event)}"
        for number, event in enumerate(shown)
    )


def brief(event: Event) -> str:
    """Format an event as one line."""
    fields = {name: getattr(event, name) for name in event.__slots__}
    at = fields.pop("at")
    return f"{at:8.3f} {type(event).__name__} {fields}"
