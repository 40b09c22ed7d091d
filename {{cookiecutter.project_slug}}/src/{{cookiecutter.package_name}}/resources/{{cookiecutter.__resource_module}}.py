"""The chat: one connection of a user to a room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import falcon.asgi
import msgspec

from falcon_pachinko import Activity, Reject, WebSocketLike, handles_message
from falcon_pachinko.names import check_room_name, display_name

from .. import users
from ..invitations import Invitations, split_invitation
from ..message_fields import RoomName
from ..messages import (
    CLOSE_CODES,
    MAX_USERS,
    NOT_SIGNED_IN,
    SERVER_MESSAGES,
    NoPayload,
    RoomUser,
    SendMessage,
    ServerRoomState,
    ServerSystemMessage,
    ServerUserJoined,
    ServerUserLeft,
    ServerUserTyping,
)
from ..names import Names
from ..room_list import RoomList
from .changes import Changes
from .past import Past

if TYPE_CHECKING:
    from ..store import MessageStore

# The prefix of this resource's room names; several resources share one manager.
ROOM_PREFIX = {{ cookiecutter.__room_prefix_literal }}


class Named(msgspec.Struct, frozen=True):
    """The presence record of a connection: the name that its user has there."""

    name: str


class {{ cookiecutter.__resource_class }}(Past, Changes):
    """A connection of one user to one room; what concerns stored messages is in the base classes.

    Args:
        invitations: Checks the links to private rooms.
        names: Remembers the names of users.
        room_list: The rooms of the service.
        store: Keeps the messages; ``None`` to store none.
    """

    sends = SERVER_MESSAGES
    closes = CLOSE_CODES

    invitation: str
    typing: Activity

    def __init__(
        self,
        invitations: Invitations,
        names: Names,
        room_list: RoomList,
        store: MessageStore | None = None,
    ) -> None:
        self.invitations = invitations
        self.names = names
        self.room_list = room_list
        self.store = store

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, room_name: RoomName
    ) -> bool:
        """Let a signed-in user join the room, and send its first users and their number."""
        user: users.User | None = req.context.user
        if user is None:
            raise Reject(NOT_SIGNED_IN, "sign in first")
        name, self.invitation = split_invitation(check_room_name(room_name))
        check_room_name(name)
        self.user = user
        self.room = ROOM_PREFIX + name
        self.names.add(user.id, user.name)
        is_new = await self.join_room(
            self.room,
            join_message=ServerUserJoined(user=user.name, user_id=user.id),
            leave_message=ServerUserLeft(user=user.name, user_id=user.id),
            meta=Named(name=user.name),
        )
        self.typing = self.activity(
            self.room,
            started=ServerUserTyping(user=user.name, user_id=user.id, is_typing=True),
            ended=ServerUserTyping(user=user.name, user_id=user.id, is_typing=False),
        )
        # SECURITY: the text reads as the service's own, so neither name may reorder or continue it.
        welcome = f"Welcome {display_name(user.name)} to room '{display_name(name)}'!"
        await ws.send_media(ServerSystemMessage(text=welcome))
        await self.send_room_state(ws, is_new=is_new)
        return True

    async def authorize(self, user: users.User, action: str, room: str | None) -> bool:
        """Ask the policy in ``users.py``; called before a join and a text, and when a session is refreshed."""
        name = None if room is None else room.removeprefix(ROOM_PREFIX)
        is_invited = name is not None and self.invitations.admits(name, self.invitation)
        return await users.authorize(user, action, name, is_invited=is_invited)

    async def send_room_state(self, ws: WebSocketLike, *, is_new: bool) -> None:
        """Send the first users of the room and their number; ``is_new`` if the list may lack this user."""
        user = self.user
        page = await self.room_members(self.room, limit=MAX_USERS)
        others = [user_id for user_id in page if user_id != user.id][: MAX_USERS - 1]
        for user_id, records in page.decode(Named).items():
            if records:
                self.names.add(user_id, records[-1].name)
        count = page.total + (is_new and user.id not in page)
        you = RoomUser(user=user.name, user_id=user.id)
        await ws.send_media(
            ServerRoomState(
                users=[*(RoomUser(self.names.of(each), each) for each in others), you],
                you=you,
                count=count,
                truncated=count > len(others) + 1 or msgspec.UNSET,
            )
        )

    async def on_resync(self, ws: WebSocketLike, room: str) -> None:
        """Send the users again: after an outage of Redis some joins and leaves may be missing."""
        await self.send_room_state(ws, is_new=False)

    # A second execution for one request stores nothing: it finds the message of the first one.
    @handles_message("clientSendMessage", action="send", once=True, repeatable=True)
    async def send_message(self, ws: WebSocketLike, payload: SendMessage) -> None:
        """Store a text, and send it to all clients in the room, including the sender."""
        await self.publish_text(payload.text)

    @handles_message("clientStartTyping")
    async def start_typing(self, ws: WebSocketLike, payload: NoPayload) -> None:
        """Show the other clients that the user is typing, until it stops or says nothing more of it for 6 s."""
        await self.typing.report()

    @handles_message("clientStopTyping")
    async def stop_typing(self, ws: WebSocketLike, payload: NoPayload) -> None:
        """Show the other clients that the user has stopped typing."""
        await self.typing.end()
