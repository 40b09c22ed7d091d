"""Nodes and their users in one room, for the tests of presence."""

from functools import partial

from falcon_pachinko.backends.presence import Presence

from ...support.backends import HISTORY, RecordingNode, announced, text, wait_until

# What a loaded machine may take for a renewal and for messages, besides the times of the contract.
MACHINE_SECONDS = 1.5


async def subscribe(*nodes: RecordingNode) -> None:
    """Subscribe nodes to the room."""
    for node in nodes:
        await node.backend.subscribe("room", HISTORY)


async def join(node: RecordingNode, connection: str, user: str) -> Presence:
    """Enter the room."""
    presence = announced(connection, user)
    await node.backend.enter_nowait("room", presence)
    return presence


async def marked(sender: RecordingNode, *receivers: RecordingNode) -> None:
    """Publish a marker and wait for it: all earlier messages have been delivered."""
    await sender.backend.publish_nowait("room", text("marker"))
    for node in (sender, *receivers):
        await wait_until(partial(node.got_last, "room", "marker"))
