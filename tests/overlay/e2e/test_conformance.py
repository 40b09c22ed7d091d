"""The service follows docs/protocol.md, as the command of that page checks it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from ..conftest import Server

BOUND_SECONDS = 55.0


def test_the_service_conforms_to_the_protocol(server: Server, room: str) -> None:
    token = httpx.post(f"{server.url}/session", json={"name": "Robot"}, trust_env=False).json()[
        "token"
    ]
    command = [sys.executable, "-m", "falcon_pachinko", "conformance", f"{server.ws_url}/{room}"]
    finished = subprocess.run(
        [*command, "--token", token, "--send", "clientSendMessage", '{"text": "Beep"}', "--quick"],
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[-1] == "the server conforms"
    assert [line for line in lines if line.startswith("skip")] == [
        "skip  an idle client gets its position again within the announced time: it takes 20 s"
    ]
