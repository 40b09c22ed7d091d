"""The operating system's bound of a process's open files."""

from __future__ import annotations

from contextlib import suppress


def raise_open_files() -> int | None:
    """Raise the soft limit of open files to the hard one.

    Returns:
        The soft limit in force; ``None`` if there is none, as on Windows.
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS has a further limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft
