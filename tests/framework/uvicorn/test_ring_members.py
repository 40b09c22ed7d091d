"""Members that a ring writes to get what the transports would send: with real sockets, on both event loops."""

import asyncio
import errno
import os
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from falcon_pachinko.limits import Limits
from falcon_pachinko.publication import Publication
from falcon_pachinko.uvicorn.noting_transport import descriptor_of
from falcon_pachinko.uvicorn.ring import STAGED_BYTES

from ..support.certificate import make_certificate
from ..support.ring_rooms import NEW_LOOP, WAIT_SECONDS, Member, Members, Run, counted, runner
from ..support.rings import needs_ring

pytestmark = needs_ring


@pytest.fixture(params=NEW_LOOP)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with runner(request.param) as run:
        yield run


@pytest.mark.parametrize("seed", range(4))
def test_every_member_gets_its_bytes_in_order_whoever_reads(
    monkeypatch: pytest.MonkeyPatch, run: Run, seed: int
) -> None:
    """Broadcasts, exclusions and direct messages, with a member that does not read and one that reads late."""

    async def scenario(members: Members) -> None:
        counts = counted(monkeypatch, members.ring)
        choose = random.Random(seed)
        for _ in range(8):
            await members.connect()
        stalled, late, *_ = members.all
        for member in (stalled, late):
            member.outbox.limits = Limits(outbox_bytes=1 << 30)
            member.outbox.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192
            )
        groups = [members.group(), members.group(*members.all[:5])]
        for number in range(400):
            size = choose.choice([1, 100, 100, 5_000, STAGED_BYTES])
            text = f"{number} " + "x" * choose.randrange(size)
            match choose.randrange(5):
                case 0:
                    members.write(choose.choice(members.all), text)
                case 1:
                    members.broadcast(groups[0], text, choose.choice(members.all))
                case 2:
                    members.broadcast(groups[1], text, *choose.sample(members.all, 2))
                case _:
                    members.broadcast(choose.choice(groups), text)
            if choose.randrange(2):
                await asyncio.sleep(0)
            for member in members.all[2:]:
                member.read_some()
            if number % 50 == 0:
                late.read_some()
        assert stalled.has_waited
        assert stalled.outbox.waiting
        await members.wait_read()
        for member in members.all:
            assert member.read == member.expected
            assert member.failures == []
        assert len(counts) > 100
        # Those that read again are written by the ring again.
        members.broadcast(groups[0], "last")
        await members.wait_read()
        assert counts[-1] == 8
        assert all(member.read == member.expected for member in members.all)

    run(scenario)


def test_a_client_that_does_not_read_fails_at_the_bound_of_its_outbox(run: Run) -> None:
    async def scenario(members: Members) -> None:
        stalled, other = await members.connect(), await members.connect()
        group = members.group()
        for _ in range(200):
            members.broadcast(group, "x" * 60_000)
            await asyncio.sleep(0)
            await members.wait_read(other)
        assert other.read == other.expected
        assert other.failures == []
        assert [type(error).__name__ for error in stalled.failures][:1] == ["OutboxFull"]

    run(scenario)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_transport_that_closes_gets_nothing_more(run: Run, end: str) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(3):
            await members.connect()
        group = members.group()
        members.broadcast(group, "before")
        await members.wait_read()
        ended = members.all[1]
        # Nothing but the transport knows.
        getattr(ended.transport, end)()
        members.broadcast(group, "after")
        members.batch.flush()
        async with asyncio.timeout(WAIT_SECONDS):
            while not ended.read_some():  # noqa: ASYNC110 - no event announces the change
                await asyncio.sleep(0.001)
        assert ended.read == Publication.of_text("before").make_frame()
        members.all.remove(ended)
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)
        ended.client.close()

    run(scenario)


def test_a_descriptor_of_another_connection_gets_nothing_of_the_room(run: Run) -> None:
    """Even where the outbox has not been told that its connection is lost."""

    async def scenario(members: Members) -> None:
        for _ in range(2):
            await members.connect()
        lost = await members.connect(reports_loss=False)
        descriptor = lost.transport.get_extra_info("socket").fileno()
        group = members.group()
        members.broadcast(group, "before")
        await members.wait_read()
        near, far = socket.socketpair()
        with near, far:
            lost.transport.abort()
            async with asyncio.timeout(WAIT_SECONDS):
                while not (lost.is_lost and is_closed(descriptor)):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            os.dup2(near.fileno(), descriptor)
            far.setblocking(False)
            members.broadcast(group, "after")
            members.batch.flush()
            with pytest.raises(BlockingIOError):
                far.recv(1)
            os.close(descriptor)
        members.all.remove(lost)
        await members.wait_read()
        assert all(member.read == member.expected for member in members.all)
        lost.client.close()

    run(scenario)


def is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


def test_a_member_whose_client_has_gone_does_not_affect_others(run: Run) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(3):
            await members.connect()
        gone, *others = members.all
        group = members.group()
        gone.client.close()
        async with asyncio.timeout(WAIT_SECONDS):
            number = 0
            while not gone.is_lost:
                members.broadcast(group, f"message {number}")
                number += 1
                await asyncio.sleep(0.001)
        await members.wait_read(*others)
        assert all(member.read == member.expected for member in others)
        assert all(member.failures == [] for member in members.all)

    run(scenario)


def test_a_transport_that_refuses_the_rest_is_a_failure_of_its_member(run: Run) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(3):
            await members.connect()
        ended, *others = members.all
        group = members.group()
        ended.transport.write_eof()
        await asyncio.sleep(0.01)  # uvloop ends our side in a later iteration
        members.broadcast(group, "after")
        await members.wait_read(*others)
        assert [type(error) for error in ended.failures] == [RuntimeError]
        assert all(member.read == member.expected for member in others)
        assert ended.client.recv(10) == b""

    run(scenario)


@pytest.mark.parametrize("error", [errno.EIO, errno.EAGAIN])
def test_nothing_is_lost_or_doubled_by_a_failure(
    monkeypatch: pytest.MonkeyPatch, run: Run, error: int
) -> None:
    async def scenario(members: Members) -> None:
        ring, enter = members.ring, members.ring.enter
        takes = [3, -error]

        def take(count: int) -> int:
            if not takes:
                return enter(count)
            taken = takes.pop(0)
            return enter(min(count, taken)) if taken > 0 else taken

        for _ in range(8):
            await members.connect()
        group = members.group()
        for number in range(5):
            if number == 1:
                monkeypatch.setattr(ring, "enter", take)
            members.broadcast(group, f"message {number}")
            members.batch.flush()
        await members.wait_read()
        assert ring.is_open == (error == errno.EAGAIN)
        assert all(member.read == member.expected for member in members.all)
        assert takes == []

    run(scenario)


def test_a_member_with_an_unknown_send_is_aborted(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    async def scenario(members: Members) -> None:
        enter = members.ring.enter
        for _ in range(6):
            await members.connect()
        monkeypatch.setattr(members.ring, "enter", lambda count: enter(3) + 1)
        group = members.group()
        members.broadcast(group, "hello")
        members.batch.flush()
        assert [member.transport.is_closing() for member in members.all] == [
            number == 3 for number in range(6)
        ]
        members.broadcast(group, " again")
        known = [member for member in members.all if not member.transport.is_closing()]
        await members.wait_read(*known)
        assert all(member.read == member.expected for member in known)

    run(scenario)


def test_members_with_tls_take_their_transports(run: Run, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=str(certificate))

    async def scenario(members: Members) -> None:
        loop = asyncio.get_running_loop()
        made: list[Member] = []

        def make() -> Member:
            made.append(Member(socket.socket()))
            return made[-1]

        server = await loop.create_server(make, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        for _ in range(2):
            await members.connect()
        (encrypted,) = made
        plain = list(members.all)
        assert descriptor_of(encrypted.plain) == -1
        assert all(descriptor_of(member.plain) >= 0 for member in plain)
        members.all.insert(1, encrypted)
        group = members.group()
        for number in range(3):
            members.broadcast(group, f"message {number}")
        async with asyncio.timeout(WAIT_SECONDS):
            assert await reader.readexactly(len(encrypted.expected)) == encrypted.expected
        await members.wait_read(*plain)
        assert all(member.read == member.expected for member in plain)
        writer.close()
        server.close()

    run(scenario)
