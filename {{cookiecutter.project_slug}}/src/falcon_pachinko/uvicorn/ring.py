"""io_uring: one system call writes the same bytes to all members of a room (opt-in; Linux 5.6 or later).

A send is submitted with ``MSG_DONTWAIT`` and completes within the system call, as ``send(2)`` would: nothing waits in the
ring, and the event loop needs no events of it. See io_uring(7) and io_uring_enter(2).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import platform
import socket
import struct
import sys
from array import array
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# The machines of the kernel's common table of system calls with 64 bits, the lower ones first.
MACHINES = {"aarch64", "loongarch64", "ppc64le", "riscv64", "x86_64"}
SETUP, ENTER = 425, 426
DISABLED_BY = Path("/proc/sys/kernel/io_uring_disabled")
# <linux/io_uring.h>: the size and the parts of io_uring_params, the places of the mappings, a feature.
PARAMETERS_BYTES, SQ_OFFSETS_AT, CQ_OFFSETS_AT = 120, 40, 80
SINGLE_MMAP, ENTRIES_OFFSET = 1, 0x10000000
# An entry: opcode, flags, priority, descriptor, offset, address, length, flags of the message, user data.
ENTRY = struct.Struct("=BBHiQQIIQ24x")
ENTRY_WORDS, DESCRIPTOR_WORD, LENGTH_WORD, INDEX_WORD = ENTRY.size // 4, 1, 6, 8
# A completion: user data, result, flags.
COMPLETION_WORDS, RESULT_WORD = 4, 2
OP_SEND = 26
SEND_FLAGS = 0x40 | 0x4000  # MSG_DONTWAIT | MSG_NOSIGNAL

ALLOW = "allow io_uring_setup and io_uring_enter there"
# PERF: a submission of this size takes about 1 ms, during which other threads of Python wait, as they do for 5 ms
#   while Python code runs. Larger ones are not faster: the entries leave the processor's first cache.
ENTRIES = 256
STAGED_BYTES = 65_536
# PERF: with fewer members, a group that is written once costs more than with transports.
FEWEST_MEMBERS = 16
# The kernel has accepted nothing more for now; the ring itself works.
TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EINTR}
UNKNOWN = -1
"""In place of the number of bytes that have been sent: any part of them may have been."""
Short = list[tuple[int, int]]
"""Members that have not got all bytes: the index, and the number of bytes that it has got, or ``UNKNOWN``."""


class Ring:
    """A ring for the sockets of one event loop. Use it in the thread of the loop, and in the process that opened it.

    Attributes:
        is_open: Whether it can be used; a failure closes it.
        fewest_members: The size of a room from which on it is used.

    Raises:
        OSError: The system refuses it, or it does not work as needed.
    """

    def __init__(self) -> None:
        if sys.platform != "linux" or platform.machine() not in MACHINES or sys.maxsize < 2**32:
            raise OSError(errno.ENOSYS, f"not known for {sys.platform} on {platform.machine()}")
        # NOTE: PyDLL keeps the GIL. A call that released it would wait for up to 5 ms where another thread computes.
        self.syscall: Any = ctypes.PyDLL(None, use_errno=True).syscall
        self.syscall.restype, self.syscall.argtypes = ctypes.c_long, (ctypes.c_long,) * 7
        parameters = ctypes.create_string_buffer(PARAMETERS_BYTES)
        at = ctypes.addressof(parameters)
        self.fd: int = self.syscall(SETUP, ENTRIES, at, 0, 0, 0, 0)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.is_open = True
        self.fewest_members = FEWEST_MEMBERS
        self.mappings: list[mmap.mmap] = []
        try:
            self._map(parameters)
            self._check()
        except BaseException:
            self.close()
            raise

    def _map(self, parameters: ctypes.Array[ctypes.c_char]) -> None:
        """Map the memory that is shared with the kernel."""
        entries, completions, _, _, _, features = struct.unpack_from("=6I", parameters)
        if not features & SINGLE_MMAP:
            raise OSError(errno.ENOSYS, "the kernel is older than Linux 5.6")
        sq = struct.unpack_from("=7I", parameters, SQ_OFFSETS_AT)
        cq = struct.unpack_from("=6I", parameters, CQ_OFFSETS_AT)
        size = max(sq[6] + 4 * entries, cq[5] + 4 * COMPLETION_WORDS * completions)
        rings = mmap.mmap(self.fd, size)
        submissions = mmap.mmap(self.fd, ENTRY.size * entries, offset=ENTRIES_OFFSET)
        self.staged = mmap.mmap(-1, STAGED_BYTES)
        self.mappings = [rings, submissions, self.staged]
        self.words = memoryview(rings)[: size // 4 * 4].cast("I")
        self.entries = memoryview(submissions).cast("I")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.staged))
        self.sq_head_at, self.sq_tail_at = sq[0] // 4, sq[1] // 4
        self.cq_head_at, self.cq_tail_at, self.cq_at = cq[0] // 4, cq[1] // 4, cq[5] // 4
        self.cq_entries = completions
        slots = sq[6] // 4
        self.words[slots : slots + entries] = array("I", range(entries))

    def _check(self) -> None:
        """Send to a socket with and without space, because the operation is newer than the ring."""
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            entries = self.make_entries([near.fileno()])
            if self.send(entries, b"ab") or far.recv(3) != b"ab":
                raise OSError(errno.ENOSYS, "the kernel is older than Linux 5.6")
            try:
                while True:
                    near.send(bytes(STAGED_BYTES))
            except BlockingIOError:
                pass
            if self.send(entries, b"ab") != [(0, 0)]:
                raise OSError(errno.ENOSYS, "a send does not complete at once")

    def takes(self, members: int, data: bytes) -> bool:
        """Return whether data for so many members is sent by this ring."""
        return self.is_open and members >= self.fewest_members and len(data) <= STAGED_BYTES

    def make_entries(self, descriptors: list[int]) -> memoryview[int]:
        """Return an entry for each member."""
        count = len(descriptors)
        entry = ENTRY.pack(OP_SEND, 0, 0, 0, 0, self.address, 0, SEND_FLAGS, 0)
        entries = memoryview(bytearray(entry * count)).cast("I")
        entries[DESCRIPTOR_WORD::ENTRY_WORDS] = memoryview(
            struct.pack(f"={count}i", *descriptors)
        ).cast("I")
        entries[INDEX_WORD::ENTRY_WORDS] = array("I", range(count))
        return entries

    @staticmethod
    def without(entries: memoryview[int], omitted: list[int]) -> memoryview[int]:
        """Return entries without those of some members, given in order."""
        parts, begin = [], 0
        for index in omitted:
            parts.append(entries[begin * ENTRY_WORDS : index * ENTRY_WORDS])
            begin = index + 1
        parts.append(entries[begin * ENTRY_WORDS :])
        return memoryview(bytearray(b"".join(parts))).cast("I")

    def send(self, entries: memoryview[int], data: bytes) -> Short:
        """Send the same bytes to members; return those that have not got all.

        If the ring fails, it is closed, a line is logged, and the members without a send are returned with 0.

        Args:
            entries: The result of :meth:`make_entries`, or whole entries of it.
            data: At most ``STAGED_BYTES``.
        """
        size, total = len(data), len(entries)
        if not total:
            return []
        self.staged[:size] = data
        if entries[LENGTH_WORD] != size:
            entries[LENGTH_WORD::ENTRY_WORDS] = array("I", [size]) * (total // ENTRY_WORDS)
        short: Short = []
        begun = 0
        while begun < total:
            part = entries[begun : begun + ENTRIES * ENTRY_WORDS]
            submitted = self._submit(part)
            if submitted > 0:
                self._collect(part[: submitted * ENTRY_WORDS], size, short)
                begun += submitted * ENTRY_WORDS
            else:
                problem = -submitted
                if problem not in TRANSIENT:
                    self._fail(os.strerror(problem) if problem else "nothing is submitted")
            if submitted <= 0 or not self.is_open:
                short += [(index, 0) for index in indices(entries[begun:])]
                break
        return short

    def _submit(self, part: memoryview[int]) -> int:
        """Submit entries; return how many the kernel has taken, or the negative number of an error."""
        words, count = self.words, len(part) // ENTRY_WORDS
        tail = words[self.sq_head_at]  # the kernel has taken all before
        at = tail % ENTRIES
        first = min(count, ENTRIES - at) * ENTRY_WORDS
        self.entries[at * ENTRY_WORDS : at * ENTRY_WORDS + first] = part[:first]
        if first < len(part):
            self.entries[: len(part) - first] = part[first:]
        words[self.sq_tail_at] = (tail + count) & 0xFFFFFFFF
        submitted = self.enter(count)
        if submitted != count:
            words[self.sq_tail_at] = words[self.sq_head_at]
        return submitted

    def enter(self, count: int) -> int:
        """Let the kernel take entries; return how many it has taken, or the negative number of an error."""
        submitted: int = self.syscall(ENTER, self.fd, count, 0, 0, 0, 0)
        return submitted if submitted >= 0 else -ctypes.get_errno()

    def _collect(self, part: memoryview[int], size: int, short: Short) -> None:
        """Read the completions of entries, and append what is missing."""
        words, count = self.words, len(part) // ENTRY_WORDS
        head = words[self.cq_head_at]
        done = (words[self.cq_tail_at] - head) & 0xFFFFFFFF
        first, last = self.cq_at, self.cq_at + self.cq_entries * COMPLETION_WORDS
        at = first + head % self.cq_entries * COMPLETION_WORDS
        end = at + done * COMPLETION_WORDS
        read, wrapped = words[at : min(end, last)], words[first : first + max(end - last, 0)]
        words[self.cq_head_at] = (head + done) & 0xFFFFFFFF
        results = read[RESULT_WORD::COMPLETION_WORDS].tolist()
        results += wrapped[RESULT_WORD::COMPLETION_WORDS].tolist()
        if done == results.count(size) == count:
            return
        completed = read[::COMPLETION_WORDS].tolist() + wrapped[::COMPLETION_WORDS].tolist()
        by_index = dict(zip(completed, results, strict=True))
        for index in indices(part):
            # NOTE: the number of an error is negative, and read as a large one.
            sent = by_index.get(index)
            if sent is None:
                short.append((index, UNKNOWN))
            elif sent != size:
                short.append((index, sent if sent < size else 0))
        if done != count:
            self._fail(f"{done} of {count} sends have completed")

    def _fail(self, reason: str) -> None:
        logger.error("io_uring has failed, so rooms are written through transports: %s", reason)
        self.close()

    def close(self) -> None:
        """Release the ring. Idempotent."""
        if self.is_open:
            self.is_open = False
            os.close(self.fd)
            # NOTE: a mapping is released with the last view of it.
            self.words = self.entries = memoryview(b"").cast("I")
            self.mappings.clear()


def indices(entries: memoryview[int]) -> list[int]:
    """Return the indices of the members with these entries."""
    return entries[INDEX_WORD::ENTRY_WORDS].tolist()


def open_ring() -> Ring | None:
    """Open a ring; log whether it is in use, and if the system does not permit it, return ``None``."""
    try:
        ring = Ring()
    except OSError as error:
        logger.warning(
            "io_uring is not available, so rooms are written through transports: %s",
            reason_of(error),
        )
        return None
    logger.info("io_uring writes to rooms of %d members and more", ring.fewest_members)
    return ring


def reason_of(error: OSError) -> str:
    """Return why a ring cannot be opened, and what to do about it."""
    if error.errno == errno.EPERM:
        if DISABLED_BY.is_file() and DISABLED_BY.read_text().strip() != "0":
            return f"{DISABLED_BY} forbids it; set it to 0"
        return f"a seccomp profile forbids it, such as Docker's; {ALLOW}"
    if error.errno == errno.ENOSYS and error.strerror == os.strerror(errno.ENOSYS):
        return f"the kernel is older than Linux 5.6, or a seccomp profile forbids it; {ALLOW}"
    return error.strerror or str(error)
