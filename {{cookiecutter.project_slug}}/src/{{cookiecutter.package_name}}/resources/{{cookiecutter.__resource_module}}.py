"""The chat: one connection of a user to a room."""

from __future__ import annotations

import falcon.asgi
import msgspec

from falcon_pachinko import (
    MessageError,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_message,
)
from falcon_pachinko.names import check_room_name, display_name

from .. import users
from ..invitations import Invitations, split_invitation
from ..messages import (
    CLOSE_CODES,
    HISTORY_PAGE,
    MAX_USERS,
    NOT_SIGNED_IN,
    SERVER_MESSAGES,
    LoadHistory,
    NoPayload,
    PastMessage,
    RoomName,
    RoomUser,
    SendMessage,
    ServerHistory,
    ServerNewMessage,
    ServerRoomState,
    ServerSystemMessage,
    ServerUserJoined,
    ServerUserLeft,
    ServerUserTyping,
)
from ..names import Names
from ..store import MessageStore
from ..tables import NewMessage

# The prefix of this resource's room names; several resources share one manager.
ROOM_PREFIX = {{ cookiecutter.__room_prefix_literal }}


class Named(msgspec.Struct, frozen=True):
    """The presence record of a connection: the name that its user has there."""

    name: str


class {{ cookiecutter.__resource_class }}(WebSocketResource):
    """A connection of one user to one room.

    Args:
        invitations: Checks the links to private rooms.
        names: Remembers the names of users.
        store: Keeps the messages; ``None`` to store none.
    """

    sends = SERVER_MESSAGES
    closes = CLOSE_CODES

    user: users.User
    room: str
    invitation: str
    typing: bool = False

    def __init__(
        self, invitations: Invitations, names: Names, store: MessageStore | None = None
    ) -> None:
        self.invitations = invitations
        self.names = names
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
        user, text = self.user, payload.text
        message_id: str | msgspec.UnsetType = msgspec.UNSET
        if self.store is not None:
            message = NewMessage(room=self.room, user_id=user.id, user_name=user.name, text=text)
            key = self.request_key
            # NOTE: before it is sent: a crash in between loses no message that a client has seen.
            stored = await self.store.add(message, key and key.client, key and key.ref)
            if (stored.room, stored.user_id) != (self.room, user.id):
                raise MessageError("This request has sent another message.", code="refUsed")
            if stored.deleted_at is not None:
                return
            message_id, text = stored.id, stored.text
        # One that was stored before may have been sent as well: clients recognise it by its id.
        await self.broadcast_to_room(
            self.room,
            ServerNewMessage(user=user.name, user_id=user.id, text=text, message_id=message_id),
        )

    @handles_message("clientLoadHistory", action="read", per_second=5, burst=20)
    async def load_history(self, ws: WebSocketLike, payload: LoadHistory) -> ServerHistory:
        """Reply with a page of the room's past."""
        if self.store is None:
            raise MessageError("Messages are not stored here.", code="notStored")
        found = await self.store.page(self.room, payload.before or None, HISTORY_PAGE + 1)
        page = [
            PastMessage(each.id, each.user_name, each.user_id, each.text, each.sent_at)
            for each in found[-HISTORY_PAGE:]
        ]
        return ServerHistory(messages=page, has_more=len(found) > HISTORY_PAGE)

    @handles_message("clientStartTyping")
    async def start_typing(self, ws: WebSocketLike, payload: NoPayload) -> None:
        """Notify the other clients that the user is typing."""
        await self.set_typing(True)

    @handles_message("clientStopTyping")
    async def stop_typing(self, ws: WebSocketLike, payload: NoPayload) -> None:
        """Notify the other clients that the user has stopped typing."""
        await self.set_typing(False)

    async def set_typing(self, is_typing: bool) -> None:
        """Broadcast the typing state, and keep it for a disconnect while typing."""
        self.typing = is_typing
        await self.broadcast_to_room(
            self.room,
            ServerUserTyping(user=self.user.name, user_id=self.user.id, is_typing=is_typing),
            exclude_self=True,
            ephemeral=True,
        )

    async def on_disconnect(self, ws: WebSocketLike, close_code: int) -> None:
        """Stop typing; the framework sends the leave message after the grace period."""
        if self.typing:
            await self.set_typing(False)
