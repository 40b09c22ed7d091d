"""The operator's actions in a process, requested over the admin socket or on the page ``/inspect``."""

from __future__ import annotations

from falcon_pachinko import WebSocketConnectionManager

from .admin_messages import Action, Announce, Answer, Disconnect, Restrict
from .announcements import announce_to_rooms


async def carry_out(
    manager: WebSocketConnectionManager, action: Action, room_prefix: str
) -> Answer:
    """Carry out an action, over Redis in all processes.

    Args:
        manager: The connection manager.
        action: The action.
        room_prefix: The prefix of the rooms that get announcements.

    Raises:
        PachinkoError: It was not, or not completely.
        ValueError: A value is not valid, such as a negative duration.
    """
    if isinstance(action, Announce):
        return Answer(rooms=await announce_to_rooms(manager, room_prefix, action.text))
    if isinstance(action, Disconnect):
        await manager.disconnect_user(action.user)
    else:
        await restrict(manager, action)
    return Answer(done=True)


async def restrict(manager: WebSocketConnectionManager, action: Restrict) -> None:
    """Ban or mute a user, or end that."""
    user, room = action.user, action.room
    if action.change == "ban":
        await manager.ban(user, room, seconds=action.seconds)
    elif action.change == "mute":
        await manager.mute(user, room, seconds=action.seconds)
    elif action.change == "unban":
        await manager.unban(user, room)
    else:
        await manager.unmute(user, room)
