"""What ends with a connection: the requests to its client, and the channels that it carries."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any, Protocol

from .identity import Identity
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


class Carrier(Identity):
    """The part of a connection that other objects depend on."""

    __slots__ = ("_channels", "_requests", "_route")

    id: str

    def __init__(self) -> None:
        super().__init__()
        self._requests: ClientRequests | None = None  # of its handlers to its client
        self._channels: Channels | None = None  # None for a connection of one resource
        self._route: str | None = None  # the URI template

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
