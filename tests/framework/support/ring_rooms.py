"""Members of a room on real sockets, written to by a ring, and their clients."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import pytest
import uvloop

from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn.outbox import PushGroup
from falcon_pachinko.uvicorn.ring import Ring
from falcon_pachinko.uvicorn.ring_outbox import RingGroup, RingOutbox
from falcon_pachinko.uvicorn.write_batch import WRITE_BATCHES

from .rings import ring_for_small_rooms

WAIT_SECONDS = 30
NEW_LOOP = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Member(asyncio.Protocol):
    """A member on a real socket, whose client reads when the test lets it."""

    def __init__(self, client: socket.socket, *, reports_loss: bool = True) -> None:
        self.client = client
        self.client.setblocking(False)
        self.reports_loss = reports_loss
        self.failures: list[Exception] = []
        self.has_waited = self.is_lost = False
        self.expected = b""
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.plain = cast(asyncio.Transport, transport)
        self.outbox = RingOutbox(
            asyncio.get_running_loop(), self.plain, self.send, self.failures.append
        )
        # As uvicorn's protocol does: all that is written or closed is noted.
        self.transport = self.outbox.transport

    def send(self, event: object) -> Awaitable[None]:
        raise AssertionError("no event is sent")

    def pause_writing(self) -> None:
        self.has_waited = True
        self.outbox.pause()

    def resume_writing(self) -> None:
        self.outbox.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self.reports_loss:
            self.outbox.on_connection_lost()

    def read_some(self) -> bool:
        """Read what has arrived; return whether the connection has ended."""
        try:
            while data := self.client.recv(1 << 20):
                self.read += data
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True


class Members:
    """Members, and the messages that they are to receive."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.batch = WRITE_BATCHES.of(asyncio.get_running_loop())
        self.all: list[Member] = []
        self.listener = socket.create_server(("127.0.0.1", 0))

    async def connect(self, **options: Any) -> Member:
        client = socket.create_connection(self.listener.getsockname())
        near, _ = self.listener.accept()
        loop = asyncio.get_running_loop()
        _, member = await loop.create_connection(lambda: Member(client, **options), sock=near)
        self.all.append(member)
        return member

    def group(self, *members: Member) -> PushGroup:
        """Return a group of some members; without any, of all."""
        return RingGroup(tuple(member.outbox for member in members or self.all))

    def broadcast(self, group: PushGroup, text: str, *excluded: Member) -> None:
        publication = Publication.of_text(text)
        self.batch.add(group, publication, [member.outbox for member in excluded])
        for member in self.all:
            if member.outbox in group.outboxes and member not in excluded:
                member.expected += publication.make_frame()

    def write(self, member: Member, text: str) -> None:
        publication = Publication.of_text(text)
        member.outbox.write(publication)
        member.expected += publication.make_frame()

    async def wait_read(self, *members: Member) -> None:
        """Wait until the clients have read as much as they are to receive."""
        async with asyncio.timeout(WAIT_SECONDS):
            for member in members or self.all:
                while (  # noqa: ASYNC110 - no event announces the change
                    len(member.read) < len(member.expected) and not member.read_some()
                ):
                    await asyncio.sleep(0.001)

    def close(self) -> None:
        self.listener.close()
        for member in self.all:
            member.transport.abort()
            member.client.close()


Scenario = Callable[[Members], Awaitable[None]]
Run = Callable[[Scenario], None]


@contextmanager
def runner(loop: str) -> Iterator[Run]:
    """Run scenarios on an event loop of ``NEW_LOOP``, whose batch has a ring for groups of any size."""

    async def prepare(scenario: Scenario) -> None:
        with ring_for_small_rooms(asyncio.get_running_loop()) as ring:
            with closing(Members(ring)) as members:
                await scenario(members)
            await asyncio.sleep(0)  # the transports close their sockets

    with asyncio.Runner(loop_factory=NEW_LOOP[loop]) as opened:
        yield lambda scenario: opened.run(prepare(scenario))


def counted(monkeypatch: pytest.MonkeyPatch, ring: Ring) -> list[int]:
    """Return a list to which the number of members of each submission is appended."""
    counts: list[int] = []
    enter = ring.enter

    def count_and_enter(count: int) -> int:
        counts.append(count)
        return enter(count)

    monkeypatch.setattr(ring, "enter", count_and_enter)
    return counts
