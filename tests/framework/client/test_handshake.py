"""The handshake of a client: TLS, redirects, attempts that are not valid."""

import asyncio
import logging
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from falcon_pachinko.client import Client, ClientClosed, Options, State, Status, connect
from falcon_pachinko.client.conformance.peer import Target, open_peer
from falcon_pachinko.client.handshake import end_of, tls_arguments
from falcon_pachinko.errors import ConfigurationError

from ..support.certificate import make_certificate

WAIT_SECONDS = 10.0
QUICK = Options(base_delay_seconds=0.02, max_delay_seconds=0.1)
NEVER_AGAIN = Options(base_delay_seconds=3_600, max_delay_seconds=3_600)


async def greet(connection: ServerConnection) -> None:
    await connection.send('{"type": "serverHello", "payload": {}}')
    await connection.wait_closed()


def port_of(server: Any) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


async def wait_lost(client: Client) -> Status:
    """Wait until the attempt has failed and return the status."""
    lost = asyncio.Event()

    def check(status: Status) -> None:
        if status.state is State.WAITING:
            lost.set()

    client.on_status(check)
    check(client.status)
    await lost.wait()
    return client.status


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_a_connection_with_tls_verifies_the_certificate_with_the_given_context(
    certificate: tuple[Path, Path], server_context: ssl.SSLContext, scheme: str
) -> None:
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with (
        serve(greet, "127.0.0.1", 0, ssl=server_context) as server,
        asyncio.timeout(WAIT_SECONDS),
        connect(f"{scheme}://127.0.0.1:{port_of(server)}/", ssl_context=trusting) as client,
    ):
        assert (await client.receive()).type == "serverHello"


async def test_without_a_context_an_unknown_certificate_is_refused_with_its_reason(
    server_context: ssl.SSLContext,
) -> None:
    statuses: list[Status] = []
    async with serve(greet, "127.0.0.1", 0, ssl=server_context) as server:
        client = connect(f"wss://127.0.0.1:{port_of(server)}/", options=NEVER_AGAIN)
        client.on_status(statuses.append)
        async with client, asyncio.timeout(WAIT_SECONDS):
            await wait_lost(client)
    [lost] = [status for status in statuses if status.state is State.WAITING]
    assert lost.code == 1006
    assert "certificate verify failed" in lost.reason


async def test_the_certificates_of_the_environment_are_trusted_by_default(
    certificate: tuple[Path, Path],
    server_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with (
        serve(greet, "127.0.0.1", 0, ssl=server_context) as server,
        asyncio.timeout(WAIT_SECONDS),
        connect(f"wss://127.0.0.1:{port_of(server)}/") as client,
    ):
        assert (await client.receive()).type == "serverHello"


async def test_a_context_has_no_effect_without_tls() -> None:
    assert tls_arguments("ws://a.test/", ssl.create_default_context()) == {}
    assert tls_arguments("wss://a.test/", None) == {"ssl": True}
    context = ssl.create_default_context()
    async with (
        serve(greet, "127.0.0.1", 0) as server,
        asyncio.timeout(WAIT_SECONDS),
        connect(f"ws://127.0.0.1:{port_of(server)}/", ssl_context=context) as client,
    ):
        assert (await client.receive()).type == "serverHello"


async def test_an_attempt_that_is_not_valid_closes_the_client_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ws_proxy", "telnet://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with caplog.at_level(logging.CRITICAL):
        async with connect("ws://a.test/", options=QUICK) as client, asyncio.timeout(WAIT_SECONDS):
            with pytest.raises(ClientClosed) as closed:
                await client.receive()
    assert closed.value.code == 3400
    assert "telnet" in closed.value.reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError("refused"), 1006),
        (EOFError(), 1006),
        (ssl.SSLCertVerificationError("unknown"), 1006),
        (ValueError("wrong"), 3400),
        (TypeError("wrong"), 3400),
        (ImportError("no python-socks"), 3400),
    ],
)
def test_only_an_error_that_a_retry_may_remove_is_retried(
    error: Exception, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert end_of(error) == (code, str(error) or type(error).__name__)
    assert ("its configuration is not valid" in caplog.text) is (code == 3400)


async def test_a_redirect_is_not_followed_and_the_status_names_its_target(
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests: list[str] = []

    def redirect(connection: ServerConnection, request: Request) -> Response:
        requests.append(request.path)
        response = connection.respond(HTTPStatus.FOUND, "")
        response.headers["Location"] = "/elsewhere"
        return response

    async with serve(greet, "127.0.0.1", 0, process_request=redirect) as server:
        url = f"ws://127.0.0.1:{port_of(server)}/here"
        client = connect(url, token="abc", options=NEVER_AGAIN)
        async with client, asyncio.timeout(WAIT_SECONDS):
            status = await wait_lost(client)
        with pytest.raises(Exception, match="HTTP 302"):
            async with open_peer(Target(url)):
                raise AssertionError("it has followed the redirect")
    assert (status.code, status.reason) == (3302, "redirect to /elsewhere, which is not followed")
    assert "redirect to /elsewhere" in caplog.text
    assert [path.partition("?")[0] for path in requests] == ["/here", "/here"]


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"X": "a\r\nEvil: secret"}},
        {"headers": {"X": "secret Ω"}},
        {"headers": {"X y": "secret"}},
        {"headers": {"": "secret"}},
        {"token": "secret\n"},
    ],
)
async def test_a_header_that_is_not_valid_is_refused_at_once_and_its_value_is_not_shown(
    given: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationError, match=r"the header '.*' is not valid") as refused:
        connect("ws://a.test/", **given)
    assert "secret" not in str(refused.value)
