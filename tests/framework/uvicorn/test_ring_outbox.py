"""A ring never overtakes what a transport has not sent, whatever wrote it, and asks no member that has sent all."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn.noting_transport import NotingTransport
from falcon_pachinko.uvicorn.outbox import PushGroup

from ..support.ring_rooms import NEW_LOOP, WAIT_SECONDS, Member, Members, Run, counted, runner
from ..support.rings import needs_ring

MEMBERS = 20
CHUNK_BYTES = 16_000
Write = Callable[[Members, Member], None]

pytestmark = needs_ring


@pytest.fixture(params=NEW_LOOP)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with runner(request.param) as run:
        yield run


def write_directly(members: Members, member: Member) -> None:
    """Send a message to one client."""
    members.write(member, "x" * CHUNK_BYTES)
    members.batch.flush()


def write_to_small_group(members: Members, member: Member) -> None:
    """Send a message to a group that is too small for the ring."""
    members.ring.fewest_members = 2
    members.broadcast(members.group(member), "x" * CHUNK_BYTES)
    members.batch.flush()


def write_by_ring(members: Members, member: Member) -> None:
    """Let the ring leave a part to the transport."""
    members.ring.fewest_members = 1
    members.broadcast(members.group(member), "x" * CHUNK_BYTES)
    members.batch.flush()


def write_as_server(members: Members, member: Member) -> None:
    """Write what uvicorn does, such as a pong."""
    data = b"y" * CHUNK_BYTES
    member.transport.writelines([data[:10], data[10:]])
    member.expected += data


def block(members: Members, member: Member, write: Write) -> None:
    """Write to a client that does not read, until its transport has unsent data, but does not pause its outbox."""
    member.plain.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    while not member.plain.get_write_buffer_size():
        write(members, member)
    assert not member.has_waited


async def wait_sent(member: Member) -> None:
    """Read as the client until its transport has sent all."""
    async with asyncio.timeout(WAIT_SECONDS):
        while member.plain.get_write_buffer_size():
            member.read_some()
            await asyncio.sleep(0.001)


def broadcast(members: Members, group: PushGroup, text: str) -> None:
    members.broadcast(group, text)
    members.batch.flush()


@pytest.mark.parametrize(
    "write", [write_directly, write_to_small_group, write_by_ring, write_as_server]
)
def test_a_member_with_unsent_data_gets_messages_behind_it_and_later_by_the_ring(
    monkeypatch: pytest.MonkeyPatch, run: Run, write: Write
) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(MEMBERS):
            await members.connect()
        blocked = members.all[7]
        group = members.group()
        broadcast(members, group, "first")
        counts = counted(monkeypatch, members.ring)
        block(members, blocked, write)
        counts.clear()
        for number in range(3):
            blocked.read_some()  # the socket has space, but the transport does not know yet
            broadcast(members, group, f"message {number}")
        assert counts == [MEMBERS - 1] * 3
        await wait_sent(blocked)
        await members.wait_read()
        broadcast(members, group, "last")
        assert counts == [MEMBERS - 1] * 3 + [MEMBERS]
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)
        assert not members.batch.unsent

    run(scenario)


def test_unsent_data_from_before_the_first_message_to_a_room_is_not_overtaken(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(MEMBERS):
            await members.connect()
        blocked = members.all[7]
        block(members, blocked, write_directly)
        counts = counted(monkeypatch, members.ring)
        blocked.read_some()
        broadcast(members, members.group(), "first")
        assert counts == [MEMBERS - 1]
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)

    run(scenario)


def test_members_that_have_sent_all_are_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    checked: list[NotingTransport] = []
    is_passable = NotingTransport.is_passable

    def count_and_check(transport: NotingTransport) -> bool:
        checked.append(transport)
        return is_passable(transport)

    monkeypatch.setattr(NotingTransport, "is_passable", count_and_check)

    async def scenario(members: Members) -> None:
        for _ in range(MEMBERS):
            await members.connect()
        group = members.group()
        broadcast(members, group, "first")
        assert len(checked) == MEMBERS
        for number in range(5):
            members.write(members.all[number], "direct")
            broadcast(members, group, f"message {number}")
            # As for each message to a user: a group that is written once.
            broadcast(members, members.group(), "once")
        assert len(checked) == MEMBERS
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)

    run(scenario)


def test_clients_of_another_room_that_do_not_read_cost_a_room_no_more_than_its_own_members(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    checks = 0
    is_passable = NotingTransport.is_passable

    def count_and_check(transport: NotingTransport) -> bool:
        nonlocal checks
        checks += 1
        return is_passable(transport)

    async def scenario(members: Members) -> None:
        nonlocal checks
        for _ in range(MEMBERS):
            await members.connect()
        room = members.group(*members.all[:3])
        broadcast(members, members.group(), "first")
        blocked = members.all[3:]
        for member in blocked:
            block(members, member, write_directly)
        monkeypatch.setattr(NotingTransport, "is_passable", count_and_check)
        counts = counted(monkeypatch, members.ring)
        for number in range(10):
            broadcast(members, room, f"message {number}")
        assert checks == 10 * 3
        assert counts == [3] * 10
        for member in blocked:
            await wait_sent(member)
        # Each message ends the notes of as many as the room has members.
        for number in range(len(blocked) // 3 + 1):
            assert members.batch.unsent
            broadcast(members, room, f"later message {number}")
        assert not members.batch.unsent
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)

    run(scenario)


def test_a_closed_outbox_gets_nothing_more_although_its_transport_has_sent_all(run: Run) -> None:
    """Its close frame has been sent, and the client has not answered yet."""

    async def scenario(members: Members) -> None:
        for _ in range(3):
            await members.connect()
        group = members.group()
        broadcast(members, group, "before")
        closed = members.all.pop(1)
        closed.outbox.close()
        for number in range(3):
            broadcast(members, group, f"message {number}")
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)
        assert not closed.read_some()
        assert closed.read == Publication.of_text("before").make_frame()
        closed.transport.abort()
        closed.client.close()

    run(scenario)


def test_members_that_join_a_ring_while_a_group_is_written_are_not_overtaken(run: Run) -> None:
    """The failure of one member of a small group writes to a room for the first time."""

    async def scenario(members: Members) -> None:
        members.ring.fewest_members = 3
        for _ in range(3):
            await members.connect()
        failing, other, _ = members.all
        room, pair = members.group(), members.group(failing, other)

        def fail(error: Exception) -> None:
            failing.outbox.on_failure = failing.failures.append
            broadcast(members, room, "in between")
            other.expected += fill(other)

        failing.outbox.on_failure = fail
        failing.transport.write_eof()
        await asyncio.sleep(0.01)  # uvloop ends our side in a later iteration
        publication = Publication.of_text("x" * CHUNK_BYTES)
        members.batch.add(pair, publication)
        members.batch.flush()
        other.expected += publication.make_frame()
        assert other.plain.get_write_buffer_size()
        other.read_some()
        broadcast(members, room, "behind")
        await members.wait_read(other)
        assert other.read == other.expected

    run(scenario)


def fill(member: Member) -> bytes:
    """Send to a client, past its transport, until the socket takes no more."""
    sent, descriptor = b"", member.plain.get_extra_info("socket").fileno()
    while True:
        try:
            sent += bytes(os.write(descriptor, bytes(CHUNK_BYTES)))
        except BlockingIOError:
            return sent
