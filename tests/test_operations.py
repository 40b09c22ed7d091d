"""The reverse proxies of docs/operations.md carry a conversation, with the real programs."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .support.documents import code_block, replace_all
from .support.processes import WAIT_SECONDS, listens, required_program, running, wait_until

BOUND_SECONDS = 300
HOST = "chat.example.com"
SERVICE_RESTART = 1012
FORGED_ADDRESS = "203.0.113.7"  # reserved for documentation, RFC 5737

# Scaled down from a minute to seconds: an idle timeout of 2 s at the proxy, two pings per second.
PROXY_TIMEOUT_SECONDS = 2
SILENCE_SECONDS = 5
SERVICE_PROGRAM = (
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
        """Return a client's TLS context that trusts this certificate only."""
        return ssl.create_default_context(cafile=self.certificate)


@pytest.fixture
def caddy() -> str:
    return required_program("caddy")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")
    command = (
        *(
            required_program("openssl"),
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


@pytest.fixture
def service(
    baked: Callable[..., Path], project_python: Path, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes], int]]:
    """A project, the running process of its service, and the port."""
    project = baked()
    own = environment | {"PYTHONPATH": str(project / "src"), "APP_PORT": "0"}
    with running([str(project_python), "-u", "-c", SERVICE_PROGRAM], tmp_path, own) as process:
        log = tmp_path / f"{project_python.name}.log"
        address = wait_until(
            lambda: re.search(r"running on http://127.0.0.1:(\d+)", log.read_text("utf-8")),
            process,
            log,
        )
        assert isinstance(address, re.Match)
        yield project, process, int(address[1])


@pytest.mark.timeout(BOUND_SECONDS)
def test_documented_nginx_configuration_carries_a_conversation(
    nginx: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    plain, secure = free_port(), free_port()
    block = replace_all(
        code_block(project, "nginx", "docs/operations.md"),
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
        assert_address_from_proxy((tmp_path / "python.log").read_text("utf-8"))
        redirected = http.client.HTTPConnection("127.0.0.1", plain, timeout=WAIT_SECONDS)
        redirected.request("GET", "/docs", headers={"Host": HOST})
        response = redirected.getresponse()
        assert (response.status, response.getheader("Location")) == (301, f"https://{HOST}/docs")
        redirected.close()


@pytest.mark.timeout(BOUND_SECONDS)
def test_documented_caddy_configuration_carries_a_conversation(
    caddy: str,
    service: tuple[Path, subprocess.Popen[bytes], int],
    certificate: Certificate,
    free_port: Callable[[], int],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    project, process, port = service
    secure = free_port()
    block = replace_all(
        code_block(project, "caddyfile", "docs/operations.md"),
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
        assert_address_from_proxy((tmp_path / "python.log").read_text("utf-8"))


def assert_address_from_proxy(service_log: str) -> None:
    """The service logs the client's address as the proxy sees it, never as the client states it."""
    assert '127.0.0.1:0 - "POST /session ' in service_log
    assert FORGED_ADDRESS not in service_log


async def converse(port: int, certificate: Certificate, service: subprocess.Popen[bytes]) -> None:
    """Two clients chat through a proxy, also after silence, until the service stops."""
    alice_token, bob_token = [
        await asyncio.to_thread(sign_in, port, certificate, name) for name in ("Alice", "Bob")
    ]

    def connect_as(token: str, origin: str = f"https://{HOST}", host: str = HOST) -> connect:
        return connect(
            f"wss://{host}/ws/chat/general",
            host="127.0.0.1",
            port=port,
            ssl=certificate.context(),
            origin=origin,  # type: ignore[arg-type]  # it is a NewType of str
            additional_headers={"Cookie": f"session={token}"},
            ping_interval=None,
            proxy=None,
        )

    async with asyncio.timeout(WAIT_SECONDS + SILENCE_SECONDS):
        # The port is part of an origin, so the proxy has to forward it.
        authority = f"{HOST}:{port}"
        async with connect_as(alice_token, f"https://{authority}", authority):
            pass
        for foreign in ("https://evil.example", f"https://{HOST}"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect_as(alice_token, foreign, authority):
                    pass
            assert refused.value.response.status_code == 403

        async with connect_as(alice_token) as alice, connect_as(bob_token) as bob:
            for text in ("Hello Bob!", "Still there?"):
                message = {"type": "clientSendMessage", "payload": {"text": text}}
                await alice.send(json.dumps(message))
                async for frame in bob:
                    if json.loads(frame)["payload"].get("text") == text:
                        break
                await asyncio.sleep(SILENCE_SECONDS)  # the server's pings are the only traffic
            service.send_signal(signal.SIGTERM)
            for client in (alice, bob):
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await client.recv()
                assert client.close_code == SERVICE_RESTART


def sign_in(port: int, certificate: Certificate, name: str) -> str:
    """Sign in through the proxy; the cookie is secure, because the client uses HTTPS."""
    connection = http.client.HTTPConnection(HOST)
    connection.sock = certificate.context().wrap_socket(
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS), server_hostname=HOST
    )
    headers = {"Content-Type": "application/json", "X-Forwarded-For": FORGED_ADDRESS}
    connection.request("POST", "/session", json.dumps({"name": name}), headers)
    response = connection.getresponse()
    token: str = json.load(response)["token"]
    assert "; Secure" in (response.getheader("Set-Cookie") or "")
    connection.close()
    return token
