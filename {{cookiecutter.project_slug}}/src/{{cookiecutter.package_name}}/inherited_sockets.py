"""Listening sockets that systemd passes on to the service it starts: socket activation, sd_listen_fds(3)."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

# The first descriptor after the standard ones, SD_LISTEN_FDS_START.
FIRST_DESCRIPTOR = 3


def inherited_sockets() -> list[socket.socket]:
    """Return the sockets that were passed to this process, once; none for a process that systemd has not given any.

    The variables are removed, so that no child takes the sockets for its own.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
        logger.info("serves the listening socket %s of systemd", found[-1].getsockname())
    return found
