"""What the operating system says that a process has used: Linux's ``/proc``."""

import os
from pathlib import Path

PROC = Path("/proc")

# The sum of what its threads ran, in nanoseconds, is what Linux scales utime + stime to; those count
# in hundredths of a second, which is too coarse here.
CPU_SOURCE = "schedstat" if (PROC / "self" / "schedstat").exists() else "utime + stime"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system together, all of its living threads.

    What the kernel does for its ``send(2)`` counts, up to the receiver's socket on loopback.
    """
    if CPU_SOURCE == "schedstat":
        threads = (PROC / str(pid) / "task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_bytes(pid: int) -> int:
    """Memory that only this process holds (its unique set size): what would be free without it."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def resident_bytes(pid: int) -> int:
    """Memory of a process, what it shares with others too: quick to ask for."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
