"""The ring sends each member its bytes once, whatever the kernel takes; without io_uring a line tells why."""

import errno
import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from falcon_pachinko.uvicorn import ring as ring_module
from falcon_pachinko.uvicorn.ring import (
    ENTRIES,
    ENTRY_WORDS,
    STAGED_BYTES,
    UNKNOWN,
    Ring,
    open_ring,
)

from ..support.rings import needs_ring

WAIT_SECONDS = 30
SUPPORT = Path(__file__).parents[1] / "support"
MEMBERS = 40


class Pairs:
    """Connected sockets: data sent to a near one is received by its far one."""

    def __init__(self, count: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(count)]
        for pair in self.pairs:
            for each in pair:
                each.setblocking(False)

    def __len__(self) -> int:
        return len(self.pairs)

    def descriptors(self) -> list[int]:
        return [near.fileno() for near, _ in self.pairs]

    def received(self, member: int) -> bytes:
        """Return all that a member has received."""
        parts = []
        while True:
            try:
                parts.append(self.pairs[member][1].recv(1 << 20))
            except BlockingIOError:
                return b"".join(parts)

    def fill(self, member: int) -> int:
        """Send to a member until its socket takes no more; return the number of bytes."""
        sent = 0
        while True:
            try:
                sent += self.pairs[member][0].send(bytes(STAGED_BYTES))
            except BlockingIOError:
                return sent


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    pairs = Pairs(MEMBERS)
    yield pairs
    for pair in pairs.pairs:
        for each in pair:
            each.close()


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    ring.close()


def take_at_most(
    monkeypatch: pytest.MonkeyPatch, ring: Ring, *takes: int, pretended: int = 0
) -> None:
    """Let the kernel take so many entries at a time, and then fail; a negative number is an error."""
    enter, left = ring.enter, list(takes)

    def take(count: int) -> int:
        taken = left.pop(0)
        return enter(min(count, taken)) + pretended if taken >= 0 else taken

    monkeypatch.setattr(ring, "enter", take)


@needs_ring
def test_all_members_get_the_bytes_in_order_with_those_of_direct_sends(
    ring: Ring, pairs: Pairs
) -> None:
    entries = ring.make_entries(pairs.descriptors())
    sent = b""
    # The numbers pass the end of both rings, at each place of a batch.
    for number in range(3 * ENTRIES // MEMBERS * 2):
        data = b"message %d " % number * (1 + number % 3)
        assert ring.send(entries, data) == []
        for near, _ in pairs.pairs:
            near.send(b"direct ")
        sent += data + b"direct "
    assert [pairs.received(member) for member in range(MEMBERS)] == [sent] * MEMBERS


@needs_ring
def test_a_room_larger_than_the_ring_is_written_in_parts(
    monkeypatch: pytest.MonkeyPatch, pairs: Pairs
) -> None:
    monkeypatch.setattr(ring_module, "ENTRIES", 16)
    ring = Ring()
    calls: list[int] = []
    enter = ring.enter

    def count_and_enter(count: int) -> int:
        calls.append(count)
        return enter(count)

    monkeypatch.setattr(ring, "enter", count_and_enter)
    entries = ring.make_entries(pairs.descriptors())
    for number in range(5):
        assert ring.send(entries, b"%d" % number) == []
    ring.close()
    assert calls == [16, 16, 8] * 5
    assert {pairs.received(member) for member in range(MEMBERS)} == {b"01234"}


@needs_ring
def test_members_without_an_entry_get_nothing(ring: Ring, pairs: Pairs) -> None:
    omitted = [0, 1, 7, MEMBERS - 1]
    entries = ring.without(ring.make_entries(pairs.descriptors()), omitted)
    assert len(entries) == (MEMBERS - len(omitted)) * ENTRY_WORDS
    assert ring.send(entries, b"hello") == []
    for member in range(MEMBERS):
        assert pairs.received(member) == (b"" if member in omitted else b"hello")
    assert ring.send(ring.without(ring.make_entries([]), []), b"hello") == []


@needs_ring
def test_what_a_socket_has_not_taken_is_returned(ring: Ring, pairs: Pairs) -> None:
    filled = pairs.fill(3)
    pairs.pairs[5][1].close()  # it has gone
    pairs.pairs[6][0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    data = os.urandom(STAGED_BYTES)
    none, lost, part = ring.send(ring.make_entries(pairs.descriptors()), data)
    assert (none, lost) == ((3, 0), (5, 0))
    member, sent = part
    assert member == 6
    assert 0 < sent < STAGED_BYTES
    assert pairs.received(6) == data[:sent]
    assert len(pairs.received(3)) == filled
    assert pairs.received(4) == data
    assert ring.is_open


@needs_ring
def test_nothing_is_lost_or_doubled_where_the_kernel_takes_a_part(
    monkeypatch: pytest.MonkeyPatch, ring: Ring, pairs: Pairs
) -> None:
    take_at_most(monkeypatch, ring, 1, 13, 100, 100)
    entries = ring.make_entries(pairs.descriptors())
    assert ring.send(entries, b"hello") == []
    assert ring.send(entries, b" again") == []
    assert {pairs.received(member) for member in range(MEMBERS)} == {b"hello again"}


@needs_ring
@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EBUSY, errno.EINTR])
def test_a_refusal_for_now_returns_the_others_and_keeps_the_ring(
    monkeypatch: pytest.MonkeyPatch, ring: Ring, pairs: Pairs, error: int
) -> None:
    take_at_most(monkeypatch, ring, 7, -error, 100)
    entries = ring.make_entries(pairs.descriptors())
    assert ring.send(entries, b"hello") == [(member, 0) for member in range(7, MEMBERS)]
    assert ring.is_open
    assert ring.send(entries, b" again") == []
    for member in range(MEMBERS):
        assert pairs.received(member) == (b"hello again" if member < 7 else b" again")


@needs_ring
@pytest.mark.parametrize("takes", [(7, -errno.EIO), (7, 0)])
def test_a_failure_returns_the_others_and_closes_the_ring_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ring: Ring,
    pairs: Pairs,
    takes: tuple[int, int],
) -> None:
    take_at_most(monkeypatch, ring, *takes)
    entries = ring.make_entries(pairs.descriptors())
    assert ring.takes(MEMBERS, b"hello")
    assert ring.send(entries, b"hello") == [(member, 0) for member in range(7, MEMBERS)]
    assert not ring.is_open
    assert not ring.takes(MEMBERS, b"hello")
    assert [pairs.received(member) for member in range(MEMBERS)] == [b"hello"] * 7 + [b""] * 33
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "io_uring has failed, so rooms are written through transp"
    )


@needs_ring
def test_sends_that_have_not_completed_are_unknown_and_close_the_ring(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ring: Ring, pairs: Pairs
) -> None:
    take_at_most(monkeypatch, ring, 5, pretended=2)
    short = ring.send(ring.make_entries(pairs.descriptors()), b"hello")
    assert short == [(5, UNKNOWN), (6, UNKNOWN), *((member, 0) for member in range(7, MEMBERS))]
    assert not ring.is_open
    assert caplog.messages == [
        "io_uring has failed, so rooms are written through transports: 5 of 7 sends have completed"
    ]


@needs_ring
def test_a_closed_ring_has_released_its_memory_and_descriptors() -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd")) + Path("/proc/self/maps").read_text().count("uring")

    before = held()
    rings = [Ring() for _ in range(5)]
    assert held() > before
    for ring in rings:
        ring.close()
        ring.close()
    assert held() == before


def test_large_data_and_small_rooms_are_left_to_the_transports() -> None:
    ring = Ring.__new__(Ring)
    ring.is_open, ring.fewest_members = True, 16
    assert ring.takes(16, b"x" * STAGED_BYTES)
    assert not ring.takes(15, b"x")
    assert not ring.takes(16, b"x" * (STAGED_BYTES + 1))


@needs_ring
def test_an_open_ring_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ring = open_ring()
    assert ring is not None
    assert caplog.messages == ["io_uring writes to rooms of 16 members and more"]
    ring.close()


def refuse_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "mips")


def refuse_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")


@pytest.mark.parametrize("refuse", [refuse_machine, refuse_system])
def test_an_unknown_machine_has_no_ring(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refuse: Callable[[pytest.MonkeyPatch], None],
) -> None:
    refuse(monkeypatch)
    assert open_ring() is None
    (message,) = caplog.messages
    assert "io_uring is not available, so rooms are written through transports: not " in message


@needs_ring
@pytest.mark.parametrize(("allowed", "next_step"), [("1", "set it to 0"), ("0", "allow io_uring")])
def test_the_reason_tells_a_setting_of_the_kernel_from_a_profile(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    allowed: str,
    next_step: str,
) -> None:
    setting = tmp_path / "io_uring_disabled"
    setting.write_text(f"{allowed}\n")
    monkeypatch.setattr(ring_module, "DISABLED_BY", setting)

    def refuse(ring: Ring, parameters: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Ring, "_map", refuse)
    assert open_ring() is None
    (message,) = caplog.messages
    assert next_step in message
    assert (str(setting) in message) == (allowed == "1")


@needs_ring
def test_a_kernel_without_the_operation_or_with_late_completions_has_no_ring(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ring_module, "OP_SEND", 255)  # no kernel has so many
    assert open_ring() is None
    monkeypatch.undo()
    monkeypatch.setattr(ring_module, "SINGLE_MMAP", 0)
    assert open_ring() is None
    monkeypatch.undo()
    monkeypatch.setattr(ring_module, "SEND_FLAGS", 0)  # the send waits in the ring
    assert open_ring() is None
    assert [message for message in caplog.messages if "Linux 5.6" in message] == [
        "io_uring is not available, so rooms are written through transports:"
        " the kernel is older than Linux 5.6"
    ] * 2
    assert caplog.messages[-1].endswith("a send does not complete at once")


# What a container's profile does: io_uring_setup is 425, io_uring_enter 426.
FORBIDDEN = """
import logging, socket, sys
from seccomp import forbid
from falcon_pachinko.uvicorn.ring import Ring, open_ring
logging.basicConfig(format="%(message)s", level=logging.INFO)
ring = Ring() if sys.argv[1] == "426" else None
forbid(int(sys.argv[1]), int(sys.argv[2]))
if ring is None:
    assert open_ring() is None
else:
    near, far = socket.socketpair()
    assert ring.send(ring.make_entries([near.fileno()]), b"hello") == [(0, 0)]
    assert not ring.is_open
"""


@needs_ring
@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        (425, errno.EPERM, "a seccomp profile forbids it, such as Docker's; allow io_uring_setup"),
        (425, errno.ENOSYS, "the kernel is older than Linux 5.6, or a seccomp profile forbids it;"),
        (426, errno.EPERM, "Operation not permitted"),
    ],
)
def test_a_seccomp_profile_is_reported(call: int, error: int, reason: str) -> None:
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(SUPPORT)])
    finished = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(call), str(error)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert reason in line
