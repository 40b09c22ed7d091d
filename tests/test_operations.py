"""The proxies that a project's docs describe carry a conversation, with the real programs."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

BOUND_SECONDS = 300
WAIT_SECONDS = 30.0
HOST = "chat.example.com"
SERVICE_RESTART = 1012
INVENTED_ADDRESS = "203.0.113.7"  # RFC 5737: nobody has it

# A second stands for a minute: the proxy gives up after two of silence, pings come twice a second.
PROXY_TIMEOUT_SECONDS = 2
QUIET_SECONDS = 5
SERVE = (
    "import chat_service.__main__ as program;"
    " program.WEBSOCKET_OPTIONS['ws_ping_interval'] = 0.5;"
    " program.main()"
)

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {documented}
}}
"""
CADDY = "{{\n    admin off\n    auto_https disable_redirects\n}}\n{documented}"


class Certificate(NamedTuple):
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a client trusts: this certificate and no other."""
        return ssl.create_default_context(cafile=self.certificate)


def needed(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails where it must not be."""
    # Where Debian puts what serves; not everybody has that on PATH.
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing = f"{program} is not installed: apt-get install {program}"
        if os.environ.get("REQUIRE_PROXIES"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def nginx() -> str:
    return needed("nginx")


@pytest.fixture
def caddy() -> str:
    return needed("caddy")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    command = (
        *(
            needed("openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ),
        *("-nodes", "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    )
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    return made


def documented(project: Path, language: str) -> str:
    """The only block of this language in the document on operations."""
    text = (project / "docs/operations.md").read_text("utf-8")
    [block] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program whose output goes to ``<program>.log``, and stop it at the end."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)


def wait_until(
    found: Callable[[], re.Match[str] | bool | None], process: subprocess.Popen[bytes], log: Path
) -> re.Match[str] | bool:
    """Look again and again until something is found; its process must live, and time is bounded."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if something := found():
            return something
        time.sleep(0.02)
    raise AssertionError(log.read_text("utf-8", "replace"))


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), WAIT_SECONDS):
        return True
    return False


@pytest.fixture
def service(
    baked: Callable[..., Path], lent_python: Path, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes], int]]:
    """A project, its service while it is served, and the port."""
    project = baked()
    here = environment | {"PYTHONPATH": str(project / "src"), "APP_PORT": "0"}
    with running([str(lent_python), "-u", "-c", SERVE], tmp_path, here) as process:
        log = tmp_path / f"{lent_python.name}.log"
        address = wait_until(
            lambda: re.search(r"running on http://127.0.0.1:(\d+)", log.read_text("utf-8")),
            process,
            log,
        )
        assert isinstance(address, re.Match)
        yield project, process, int(address[1])


@pytest.mark.timeout(BOUND_SECONDS)
def test_nginx_as_documented_carries_a_conversation(
    nginx: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    plain, secure = free_port(), free_port()
    block = replaced(
        documented(project, "nginx"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{secure} ssl;"),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
        (f"/etc/ssl/certs/{HOST}.pem", str(certificate.certificate)),
        (f"/etc/ssl/private/{HOST}.key", str(certificate.key)),
        ("proxy_read_timeout 60s", f"proxy_read_timeout {PROXY_TIMEOUT_SECONDS}s"),
        ("proxy_send_timeout 60s", f"proxy_send_timeout {PROXY_TIMEOUT_SECONDS}s"),
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=tmp_path, documented=block), "utf-8")
    with running([nginx, "-c", str(configuration)], tmp_path, environment) as proxy:
        wait_until(lambda: listens(secure) and listens(plain), proxy, tmp_path / "nginx.log")
        asyncio.run(converse(secure, certificate, process))
        service_log = (tmp_path / "python.log").read_text("utf-8")
        assert '127.0.0.1:0 - "POST /session ' in service_log, (
            "what the proxy says of the client counts"
        )
        assert INVENTED_ADDRESS not in service_log, "what the client says of itself does not"
        moved = http.client.HTTPConnection("127.0.0.1", plain, timeout=WAIT_SECONDS)
        moved.request("GET", "/docs", headers={"Host": HOST})
        response = moved.getresponse()
        assert (response.status, response.getheader("Location")) == (301, f"https://{HOST}/docs")
        moved.close()


@pytest.mark.timeout(BOUND_SECONDS)
def test_caddy_as_documented_carries_a_conversation(
    caddy: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    secure = free_port()
    block = replaced(
        documented(project, "caddyfile"),
        (
            f"{HOST} {{\n",
            f"{HOST}:{secure} {{\n    bind 127.0.0.1\n    tls {certificate.certificate} {certificate.key}\n",
        ),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
    )
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(CADDY.format(documented=block), "utf-8")
    with running([caddy, "run", "--config", str(configuration)], tmp_path, environment) as proxy:
        wait_until(lambda: listens(secure), proxy, tmp_path / "caddy.log")
        asyncio.run(converse(secure, certificate, process))
        service_log = (tmp_path / "python.log").read_text("utf-8")
        assert '127.0.0.1:0 - "POST /session ' in service_log, (
            "what the proxy says of the client counts"
        )
        assert INVENTED_ADDRESS not in service_log, "what the client says of itself does not"


async def converse(port: int, certificate: Certificate, service: subprocess.Popen[bytes]) -> None:
    """Two people talk through a proxy, are silent, talk again, and hear why the service goes."""
    alice_token, bob_token = [
        await asyncio.to_thread(sign_in, port, certificate, name) for name in ("Alice", "Bob")
    ]

    def enter(token: str, origin: str = f"https://{HOST}", at: str = HOST) -> connect:
        return connect(
            f"wss://{at}/ws/chat/general",
            host="127.0.0.1",
            port=port,
            ssl=certificate.context(),
            origin=origin,  # type: ignore[arg-type]  # it is a NewType of str
            additional_headers={"Cookie": f"session={token}"},
            ping_interval=None,
            proxy=None,
        )

    async with asyncio.timeout(WAIT_SECONDS + QUIET_SECONDS):
        # The port is part of an origin, so the proxy has to hand it over.
        served_at = f"{HOST}:{port}"
        async with enter(alice_token, f"https://{served_at}", served_at):
            pass
        for foreign in ("https://evil.example", f"https://{HOST}"):
            with pytest.raises(InvalidStatus) as refused:
                async with enter(alice_token, foreign, served_at):
                    pass
            assert refused.value.response.status_code == 403

        async with enter(alice_token) as alice, enter(bob_token) as bob:
            for text in ("Hello Bob!", "Still there?"):
                message = {"type": "clientSendMessage", "payload": {"text": text}}
                await alice.send(json.dumps(message))
                async for heard in bob:
                    if json.loads(heard)["payload"].get("text") == text:
                        break
                await asyncio.sleep(QUIET_SECONDS)  # nothing but the server's pings
            service.send_signal(signal.SIGTERM)
            for client in (alice, bob):
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await client.recv()
                assert client.close_code == SERVICE_RESTART


def sign_in(port: int, certificate: Certificate, name: str) -> str:
    """Sign in through the proxy; the cookie knows that it came by https."""
    connection = http.client.HTTPConnection(HOST)
    connection.sock = certificate.context().wrap_socket(
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS), server_hostname=HOST
    )
    headers = {"Content-Type": "application/json", "X-Forwarded-For": INVENTED_ADDRESS}
    connection.request("POST", "/session", json.dumps({"name": name}), headers)
    response = connection.getresponse()
    token: str = json.load(response)["token"]
    assert "; Secure" in (response.getheader("Set-Cookie") or "")
    connection.close()
    return token
