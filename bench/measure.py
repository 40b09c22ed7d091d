"""CPU time and memory of a process, from Linux's ``/proc``."""

import os
from pathlib import Path

PROC = Path("/proc")

# Linux scales utime + stime to the sum of the threads' run time, which schedstat has in nanoseconds
# instead of hundredths of a second.
CPU_SOURCE = "schedstat" if (PROC / "self" / "schedstat").exists() else "utime + stime"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process, over all of its current threads.

    It includes the kernel's work in ``send(2)``, up to the receiver's socket on loopback.
    """
    if CPU_SOURCE == "schedstat":
        threads = (PROC / str(pid) / "task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_bytes(pid: int) -> int:
    """Return the unique set size of a process: the memory that its end would free."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process, which is quick to read."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
