"""The requests of a client to join rooms and to leave them, on a connection that is in several rooms."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..messages import CLIENT_JOIN, CLIENT_LEAVE, Payload, Ref


class JoinRoom(Payload, frozen=True):
    """A room to join, and what a reconnecting client has received of it."""

    room: Annotated[
        str,
        msgspec.Meta(
            description="The name of the room, as in the URL of a connection of its own.",
            examples=["general"],
        ),
    ]
    since: Annotated[
        list[str],
        msgspec.Meta(description="The last positions (`id`) that the client has received."),
    ] = msgspec.field(default_factory=list)
    connection: Annotated[
        list[str],
        msgspec.Meta(
            description="The ids of its earlier connections to the room, from `serverPosition`."
        ),
    ] = msgspec.field(default_factory=list)


class JoinPayload(Payload, frozen=True):
    """The payload of `clientJoin`: one room, or several at once."""

    room: Annotated[
        str, msgspec.Meta(description="The name of the room.", examples=["general"])
    ] = ""
    since: Annotated[list[str], msgspec.Meta(description="Its positions, as in `rooms`.")] = (
        msgspec.field(default_factory=list)
    )
    connection: Annotated[
        list[str], msgspec.Meta(description="Its earlier connections, as in `rooms`.")
    ] = msgspec.field(default_factory=list)
    rooms: Annotated[
        list[JoinRoom],
        msgspec.Meta(description="Several rooms instead, each of which has a reply of its own."),
    ] = msgspec.field(default_factory=list)

    @property
    def all_rooms(self) -> list[JoinRoom]:
        """The rooms, however they are given."""
        return self.rooms or [JoinRoom(self.room, self.since, self.connection)]


class LeavePayload(Payload, frozen=True):
    """The payload of `clientLeave`."""

    room: Annotated[str, msgspec.Meta(description="The name of the room.", examples=["general"])]


class ClientJoin(msgspec.Struct, frozen=True, tag_field="type", tag=CLIENT_JOIN):
    """Join rooms. Each has a reply of its own with its `room` beside the payload: `serverJoined`, or `serverError` if it
    is refused.
    """

    payload: JoinPayload
    ref: Ref | msgspec.UnsetType = msgspec.UNSET


class ClientLeave(msgspec.Struct, frozen=True, tag_field="type", tag=CLIENT_LEAVE):
    """Leave a room. The reply is `serverLeft`."""

    payload: LeavePayload
    ref: Ref | msgspec.UnsetType = msgspec.UNSET
