"""What ends with a connection: the requests to its client, and the channels that it carries."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any, Protocol
from weakref import ref

from ..limits import Limits
from ..route_config import DEFAULT_ROUTE_CONFIG
from .identity import Identity
from .log_context import CURRENT, Life
from .requests import ClientRequests


class Channels(Protocol):
    """The rooms of a connection that is in several rooms: a channel for each of them."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the channels that have been accepted and are open."""
        ...

    def names(self) -> Mapping[str, Any]:
        """Return these channels by the client's names of their rooms."""
        ...

    def on_closed(self, close_code: int | None) -> None:
        """End all channels: the connection is closed, or its client has disconnected."""
        ...

    def on_channel_closed(self, channel: Any) -> None:
        """Send no more messages of a room to the client: its channel is closed."""
        ...

    async def wait_turn(self, channel: Any) -> None:
        """Wait until the client has been sent what earlier joins have brought."""
        ...

    async def find_refused(self, identity: object) -> Mapping[Any, str]:
        """Return the channels whose rooms a new identity may not be in, each with a sentence for the user."""
        ...

    def on_refreshed(self, identity: object, refused: Mapping[Any, str]) -> None:
        """Continue all channels with a new identity, but for those that are refused, which are closed."""
        ...


class Announcements(Protocol):
    """What a client is about to be sent of its rooms, and is sent before any other message."""

    def __len__(self) -> int:
        """Return the number of rooms in which anything waits; zero most of the time."""
        ...

    def catch_up(self, connection: Any) -> None:
        """Send it to a client now."""
        ...


class Carrier(Identity):
    """The part of a connection that other objects depend on."""

    __slots__ = (
        "__weakref__",
        "_announcements",
        "_channels",
        "_config",
        "_life",
        "_requests",
        "_route",
    )

    id: str

    def __init__(self) -> None:
        super().__init__()
        self._requests: ClientRequests | None = None  # of its handlers to its client
        self._channels: Channels | None = None  # None for a connection of one resource
        self._life: Life | None = None  # its life cycle, until the end
        self._route: str | None = None  # the URI template
        self._announcements: Announcements | None = None  # None until the connection is accepted
        self._config = DEFAULT_ROUTE_CONFIG

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return self._config.limits

    def _catch_up(self) -> None:
        """Send what waits in the client's rooms, before a message of its own; that may close the connection."""
        if self._announcements:
            self._announcements.catch_up(self)

    def _log_from_here(self) -> None:
        """Let log records of the calling task have the fields of this connection."""
        CURRENT.set(ref(self))

    @property
    def _rate_key(self) -> Hashable:
        """What the rate of messages is counted for; ``None`` for a connection without a user."""
        if self.user is None and self._channels is not None:
            return (self.id,)  # A tuple is not the name of a user.
        return self.user

    def _end_dependents(self, close_code: int | None) -> None:
        """End the requests and the channels: the connection is closed."""
        if self._requests is not None:
            self._requests.fail(close_code)
        if self._channels is not None:
            self._channels.on_closed(close_code)


def carried(connections: Collection[Any]) -> Iterator[Any]:
    """Yield connections with the channels that they carry."""
    for connection in connections:
        yield connection
        if connection._channels is not None:
            yield from connection._channels
