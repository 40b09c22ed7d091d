"""The reverse proxies of docs/operations.md carry a conversation, with the real programs."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .support.processes import DEVELOPMENT, WAIT_SECONDS, required_program, running, wait_until
from .support.reverse_proxy import (
    HOST,
    Certificate,
    Ports,
    documented_caddy,
    documented_nginx,
    make_certificate,
)

BOUND_SECONDS = 300
SERVICE_RESTART = 1012
FORGED_ADDRESS = "203.0.113.7"  # reserved for documentation, RFC 5737

# Scaled down from a minute to seconds: an idle timeout of 2 s at the proxy, two pings per second.
PROXY_TIMEOUT_SECONDS = 2
SILENCE_SECONDS = 5
PARTS = ("header", "body")
SERVICE_PROGRAM = (
    "import chat_service.__main__ as program;"
    " program.WEBSOCKET_OPTIONS['ws_ping_interval'] = 0.5;"
    " program.main()"
)


@pytest.fixture
def caddy() -> str:
    return required_program("caddy")


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
def service(
    baked: Callable[..., Path], project_python: Path, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Path, subprocess.Popen[bytes], int]]:
    """A project, the running process of its service, and the port."""
    project = baked()
    own = environment | {"PYTHONPATH": str(project / "src"), "APP_PORT": "0", **DEVELOPMENT}
    own["APP_ALLOWED_HOSTS"] = HOST
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
    ports = Ports(free_port(), free_port())
    with documented_nginx(
        ("proxy_read_timeout 60s", f"proxy_read_timeout {PROXY_TIMEOUT_SECONDS}s"),
        ("proxy_send_timeout 60s", f"proxy_send_timeout {PROXY_TIMEOUT_SECONDS}s"),
        nginx=nginx,
        project=project,
        folder=tmp_path,
        certificate=certificate,
        ports=ports,
        upstream=port,
        environment=environment,
    ):
        asyncio.run(converse(ports.secure, certificate, process))
        assert_address_from_proxy((tmp_path / "python.log").read_text("utf-8"))


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
    ports = Ports(free_port(), free_port())
    with documented_caddy(
        *((f"read_{part} 10s", f"read_{part} {PROXY_TIMEOUT_SECONDS}s") for part in PARTS),
        ("idle 20s", f"idle {PROXY_TIMEOUT_SECONDS}s"),
        caddy=caddy,
        project=project,
        folder=tmp_path,
        certificate=certificate,
        ports=ports,
        upstream=port,
        environment=environment,
    ):
        asyncio.run(converse(ports.secure, certificate, process))
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
            additional_headers={"Cookie": f"__Host-chat-service-session={token}"},
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
    connection.request(
        "DELETE", "/session", headers={"Cookie": "__Host-chat-service-session=another"}
    )
    response = connection.getresponse()
    assert "; Secure" in (response.getheader("Set-Cookie") or "")
    connection.close()
    return token
