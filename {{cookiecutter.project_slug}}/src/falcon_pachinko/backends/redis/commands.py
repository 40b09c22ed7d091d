"""Commands to all nodes, such as the end of a user's connections: state with an age, not only a message.

A command is sent to all nodes, and kept for :data:`COMMAND_SECONDS`: a node that was cut off executes it when it has
recovered. Each node holds all of them, and stores them again if Redis loses them.
"""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

from ...close_codes import SERVICE_RESTART
from ...errors import BackendUnavailable
from ...publication import Publication
from ...support.tasks import ignore
from ..base import Node
from . import operations
from .operations import Caller
from .pipeline import Pipeline
from .script import COMMAND_SECONDS, MAX_COMMANDS

# The interval in which a caller asks whether all nodes have executed its command: the first one and the longest one.
POLL_SECONDS = 0.005
MAX_POLL_SECONDS = 0.25


class Command(NamedTuple):
    """A command.

    Attributes:
        publication: Closes the connections of a user, or those in a room.
        room: The room; ``None`` for a user.
    """

    publication: Publication
    room: str | None

    def encode(self) -> bytes:
        """Encode for Redis: whether there is a room, the room, the publication."""
        room = b"" if self.room is None else b"r" + self.room.encode()
        return room + b"\n" + self.publication.encode()

    @classmethod
    def decode(cls, data: bytes) -> Command:
        """Decode the result of :meth:`encode`."""
        room, _, encoded = data.partition(b"\n")
        return cls(Publication.decode(encoded), room[1:].decode() if room else None)


async def send_command(
    call: Caller, command: Command, seconds: float, node: str | None = None
) -> None:
    """Send a command, and wait until all live nodes have executed it.

    Args:
        call: Executes an operation.
        command: The command.
        seconds: The time that the nodes have.
        node: The node that sends it; ``None`` for a publisher.

    Raises:
        BackendUnavailable: A node has not confirmed it; it executes the command when it has recovered.
    """
    identifier, waiting = await call(operations.command(command.encode(), node))
    await wait_confirmed(call, identifier, waiting, seconds, node)


async def wait_confirmed(
    call: Caller, identifier: str, waiting: list[str], seconds: float, node: str | None
) -> None:
    """Wait until all live nodes have confirmed a message.

    Args:
        call: Executes an operation.
        identifier: The id of the message.
        waiting: The nodes that have not confirmed it.
        seconds: The time that they have.
        node: The node that has sent it; ``None`` for a publisher.

    Raises:
        BackendUnavailable: A node has not confirmed it.
    """
    loop = asyncio.get_running_loop()
    deadline, pause_seconds = loop.time() + seconds, POLL_SECONDS
    count = len(waiting)
    while waiting:
        if loop.time() >= deadline:
            raise BackendUnavailable(
                f"{len(waiting)} of {count} nodes have not confirmed the command within {seconds} s; they execute"
                " it when they have recovered"
            )
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, MAX_POLL_SECONDS)
        waiting = await call(operations.unconfirmed(identifier, node))


class Commands:
    """The commands that a node knows.

    Attributes:
        known: The encoded commands by id, and the time at which each is forgotten, on the event loop's clock.
        node: Executes them.

    Args:
        pipeline: Executes operations.
        name: The name of the node.
    """

    node: Node

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline = pipeline
        self.name = name
        self.known: dict[str, tuple[bytes, float]] = {}

    def on_message(self, head: str, data: bytes) -> None:
        """Execute a command that has just been sent, and confirm it."""
        self._execute(head.partition(":")[2], data, 0.0)

    def _execute(self, identifier: str, data: bytes, age_seconds: float) -> None:
        if identifier not in self.known:
            now = asyncio.get_running_loop().time()
            self.known[identifier] = (data, now + COMMAND_SECONDS - age_seconds)
            command = Command.decode(data)
            self.node.execute(command.publication, command.room, age_seconds)
        # NOTE: also during the recovery from an outage, when the node has its channels already.
        self.pipeline.submit(operations.confirm(self.name, identifier), None, ignore)

    async def sync(self, outage_seconds: float = 0.0) -> None:
        """Execute the commands that the node has missed, and store those that Redis has lost.

        Args:
            outage_seconds: How long the node was cut off. If commands of this time are not kept any more, all
                connections are closed, and the clients connect again.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        self.forget_old()
        known = {identifier: data for identifier, (data, _) in self.known.items()}
        missed, dropped_seconds = await self.pipeline.call(operations.sync_commands(known))
        is_complete = outage_seconds < min(dropped_seconds, COMMAND_SECONDS)
        if outage_seconds and not is_complete:
            restart = Publication.close(SERVICE_RESTART, "the server was cut off")
            self.node.execute(restart, None, 0.0)
        for identifier, data, age_seconds in missed:
            # NOTE: after a jump of the clock a command seems older than the connections that it has to close. One
            #   that the node has missed was sent during the outage, or while the node did not know of it yet.
            known_seconds = outage_seconds + 2 * self.pipeline.client.answer_seconds
            bound_seconds = known_seconds if outage_seconds else math.inf
            self._execute(identifier, data, min(age_seconds, bound_seconds))

    def forget_old(self) -> None:
        """Forget the commands that Redis does not keep any more."""
        now = asyncio.get_running_loop().time()
        for identifier, (_, until) in list(self.known.items()):
            if until <= now or len(self.known) > MAX_COMMANDS:
                del self.known[identifier]
