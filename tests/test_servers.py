"""A project's ``asgi:app`` behind a proxy on a Unix socket, by the commands of several servers."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .framework.support.server_commands import (
    HANDSHAKE,
    WAIT_SECONDS,
    ServerProcess,
    serving,
    serving_by,
)
from .support.processes import DEVELOPMENT, packages_of

FORWARDED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
PROGRAM = "from chat_service.asgi import app\n"
BOUND_SECONDS = 300
# Gunicorn ends with its own HaltServer and status 1 if a second worker ends while it stops because of the first.
# uvicorn and hypercorn end with 0 whatever has ended their workers.
REFUSED_STATUSES = {"granian": {1}, "gunicorn": {1, 3}, "hypercorn": {0}, "uvicorn": {0}}


@pytest.fixture
def variables(baked: Callable[..., Path], project_python: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a server with a default project and its dependencies."""
    paths = (str(baked() / "src"), str(tmp_path), packages_of(project_python))
    return {"PYTHONPATH": os.pathsep.join(paths), **DEVELOPMENT}


def sign_in(server: ServerProcess) -> str:
    """Sign in through the proxy, and return the cookie of the refreshed session."""
    headers = FORWARDED | {"Content-Type": "application/json"}
    body = server.response("POST", "/session", headers, '{"name": "Alice"}').content
    headers |= {"Cookie": f"__Host-chat-service-session={json.loads(body)['token']}"}
    cookie: str = server.response("POST", "/session/refresh", headers, "{}").headers["set-cookie"]
    return cookie


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "granian"])
def test_the_cookie_is_secure_behind_a_proxy_and_connects(
    variables: dict[str, str], tmp_path: Path, name: str
) -> None:
    with serving_by(name, tmp_path, PROGRAM, unix=True, **variables) as server:
        cookie = sign_in(server)
        assert "; Secure" in cookie
        handshake = HANDSHAKE | FORWARDED | {"Cookie": cookie.partition(";")[0]}
        assert server.request("/ws/chat/general", handshake)[0] == 101
        assert server.request("/ready") == (200, {"status": "ready"})
        assert "this server does not bound" in server.wait_logged("this server does not bound")


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("name", ["daphne", "uvicorn without a lifespan"])
def test_a_server_without_a_lifespan_is_alive_but_not_ready(
    variables: dict[str, str], tmp_path: Path, name: str
) -> None:
    with serving_by(name, tmp_path, PROGRAM, unix=True, **variables) as server:
        cookie = sign_in(server)
        assert "; Secure" in cookie
        handshake = HANDSHAKE | FORWARDED | {"Cookie": cookie.partition(";")[0]}
        assert server.request("/ws/chat/general", handshake)[0] in (403, 503)
        assert server.request("/health") == (200, {"status": "ok"})
        status, answer = server.request("/ready")
        assert status == 503
        assert "has not been started" in json.dumps(answer)
        assert "falcon_pachinko.lifespan(app)" in server.wait_logged("connections are refused")


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("", ""),
        ("ws='websockets-sansio'", "control frames"),
        ("http='h11'", "heads and bodies"),
        ("ws_per_message_deflate=True", "compression"),
    ],
)
def test_the_own_command_warns_of_missing_bounds_when_it_starts(
    variables: dict[str, str],
    free_port: Callable[[], int],
    tmp_path: Path,
    change: str,
    missing: str,
) -> None:
    program = (
        "import chat_service.__main__ as program;"
        f" program.WEBSOCKET_OPTIONS.update({change}); program.main([])"
    )
    port = free_port()
    with serving(["-c", program], tmp_path, port, APP_PORT=str(port), **variables) as server:
        assert server.request("/health")[0] == 200
        log = server.wait_logged("running on")
    assert log.count("this server does not bound") == bool(missing)
    assert missing in log.partition("running on")[0]


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(
    "options",
    [
        ["gunicorn", "-w", "3", "-k", "uvicorn_worker.UvicornWorker"],
        ["gunicorn", "-c", "computed.py", "-k", "uvicorn_worker.UvicornWorker"],
        ["gunicorn", "-c", "computed.py", "-k", "uvicorn_worker.UvicornWorker", "--preload"],
        ["uvicorn", "--workers", "3"],
        ["hypercorn", "-c", "computed.toml"],
        ["granian", "--interface", "asgi", "--workers", "3"],
    ],
    ids=" ".join,
)
def test_several_processes_without_redis_end_the_server(
    variables: dict[str, str],
    free_port: Callable[[], int],
    tmp_path: Path,
    options: list[str],
) -> None:
    # NOTE: only a look at the processes shows what these configure.
    (tmp_path / "computed.py").write_text("workers = 1 + 2\n", "utf-8")
    (tmp_path / "computed.toml").write_text("workers = 3\n", "utf-8")
    port = str(free_port())
    address = (
        ["--port", port] if options[0] in ("uvicorn", "granian") else ["-b", f"127.0.0.1:{port}"]
    )
    done = subprocess.run(
        [sys.executable, "-m", *options, *address, "chat_service.asgi:app"],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * WAIT_SECONDS,
    )
    output = done.stdout + done.stderr
    assert re.search(r"[23] processes would serve, and each would have rooms of its own", output)
    assert done.returncode in REFUSED_STATUSES[options[0]], output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port))).close()
