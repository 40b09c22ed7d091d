"""A listening socket of systemd: sd_listen_fds(3)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from ..conftest import PACKAGE

if TYPE_CHECKING:
    from ..conftest import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no systemd")

# What systemd does before it starts the service; clients may connect from then on.
ACTIVATED = f"""
import os, runpy, socket
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
print("running on http://127.0.0.1:%d" % port, flush=True)
os.dup2(listening.fileno(), 3)
if listening.fileno() != 3:
    listening.close()
else:
    listening.detach()
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.environ["APP_PORT"] = str(port)  # as in a service whose port is that of its socket
runpy.run_module({PACKAGE!r}, run_name="__main__")
"""


async def test_the_service_takes_over_the_socket_and_answers_a_client_that_was_early(
    serve: Callable[..., Server],
) -> None:
    server = serve("-c", ACTIVATED)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        response = await client.get(f"{server.url}/health")
    assert response.status_code == 200
    assert "serves the listening socket ('127.0.0.1', " in server.output()
