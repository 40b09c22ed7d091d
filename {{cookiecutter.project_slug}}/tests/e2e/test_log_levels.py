"""What clients cause in the log of the service: lines of JSON, and nothing above the level info."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import websockets

from ..conftest import PACKAGE, WAIT_SECONDS, token_of
from .test_log import FORGED, attack, send, wait_printed

if TYPE_CHECKING:
    from ..conftest import Server

# Each of them is read by the service of a signed-in user, who stays connected.
MISTAKES = [
    "",
    "{",
    "[]",
    "null",
    '{"type":7}',
    '{"type":"clientSaysNothing","payload":{}}',
    '{"type":"clientSendMessage"}',
    '{"type":"clientSendMessage","payload":{"text":7}}',
    '{"type":"clientSendMessage","payload":{"text":""}}',
    '{"type":"clientSendMessage","payload":{"text":"a\\nb"},"ref":7}',
    '{"type":"clientJoin","payload":{"room":""}}',
    '{"type":"clientRefreshSession","payload":{"token":7}}',
    '{"type":"clientReply","ref":"none","payload":{}}',
    '{"type":"\\u2028\\nINFO: forged","payload":{}}',
    "[" * 10_000,
]


def records(server: Server) -> list[dict[str, Any]]:
    """Return the records that the service has written, each of which is one line of JSON."""
    lines = server.output().removesuffix("\n").split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    return [json.loads(line) for line in lines]


async def make_http_mistakes(server: Server) -> None:
    """Send requests that are refused."""
    async with httpx.AsyncClient(
        base_url=server.url, trust_env=False, timeout=WAIT_SECONDS
    ) as client:
        mistakes: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("GET", "/none", {}),
            ("DELETE", "/health", {}),
            ("POST", "/session", {"content": b"{"}),
            ("POST", "/session", {"json": {"name": 7}}),
            ("POST", "/session", {"json": {"name": "x" * 10_000}}),
            ("POST", "/session", {"content": b"x" * 1_000_000}),
            ("GET", "/session", {"headers": {"Authorization": "Bearer x.y.z"}}),
            ("GET", "/session", {"headers": {"Authorization": "Basic x"}}),
            ("GET", "/session", {"headers": {"Cookie": "session=x"}}),
            ("POST", "/session/refresh", {"headers": {"Origin": "http://evil.example"}}),
            ("POST", "/session/ticket", {}),
            ("GET", "/static/../settings.py", {}),
            ("GET", "/" + "x" * 20_000, {}),
            ("GET", "/health", {"headers": {"X-Long": "x" * 40_000}}),
        )
        for method, path, options in mistakes:
            try:
                response = await client.request(method, path, **options)
            except httpx.TransportError:
                continue  # the service has closed the connection of a body that is too large
            assert response.status_code < 500, (method, path, response.text)
    for request in (
        "GET / HTTP/9\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        f"GET {server.websocket_path}/x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 7\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ):
        send(server, request)


async def make_websocket_mistakes(server: Server, headers: dict[str, str]) -> None:
    """Open connections that are refused, or closed for what the client sends."""
    url = f"{server.ws_url}/lobby"

    def connect(path: str = url, **options: Any) -> websockets.connect:
        given: dict[str, Any] = {"additional_headers": headers, **options}
        return websockets.connect(path, proxy=None, **given)

    async with connect() as client:
        for message in MISTAKES:
            await client.send(message)
        await client.send('{"type":"clientPing","ref":"last"}')
        while '"last"' not in str(await client.recv()):
            pass
    for text in ("x" * 70_000, b"binary", b"x" * 70_000):
        async with connect() as client:
            await client.send(text)
            await client.close()
    async with connect() as client:
        client.transport.write(b"\x81\x82\0\0\0\0\xff\xff")  # invalid UTF-8
        await client.wait_closed()
    async with connect() as client:
        client.transport.write(b"\x83\x80\0\0\0\0")  # a reserved opcode
        await client.wait_closed()
    async with connect() as client:
        client.transport.write(b"\x81\x01a")  # not masked
        await client.wait_closed()
    async with connect() as client:
        for _ in range(200):
            await client.send("{}")
        client.transport.abort()
    for path, given in (
        (f"{server.ws_url}/{quote('a/b', safe='')}", headers),
        (f"{server.ws_url}/{'x' * 1_000}", headers),
        (f"{server.ws_url}/staff", headers),
        (f"{url}?since=none&connection=none&client=x", headers),
        (url, {}),
        (url, {"Authorization": "Bearer none"}),
        (url, {"Authorization": f"Bearer {token_of('Bob', secret='x' * 40)}"}),
        (f"{url}?ticket=none", {}),
        (url, headers | {"Origin": "http://evil.example"}),
    ):
        try:
            async with connect(path, additional_headers=given) as client:
                await client.send("{}")
        except websockets.WebSocketException:
            pass
    for _ in range(3):
        async with connect() as client:
            client.transport.abort()


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_a_mistake_of_a_client_is_never_above_info(
    serve: Callable[..., Server], level: str
) -> None:
    server = serve(APP_LOG_FORMAT="json", APP_LOG_LEVEL=level)
    server.may_print_tracebacks = level == "debug"  # websockets writes those of invalid handshakes
    headers = {"Authorization": f"Bearer {token_of('Mallory')}"}
    attack(server, FORGED)
    await make_http_mistakes(server)
    await make_websocket_mistakes(server, headers)
    server.stop()
    found = records(server)
    assert [each for each in found if each["level"] not in ("info", "debug")] == []
    ends = [each for each in found if "messages_in" in each]
    assert max(each["messages_in"] for each in ends) >= len(MISTAKES) + 1
    if level == "debug":
        types = {each.get("message_type") for each in found}
        assert {"clientSendMessage", "clientSaysNothing"} <= types


async def test_the_servers_own_records_are_json_too(serve: Callable[..., Server]) -> None:
    server = serve(APP_LOG_FORMAT="json")
    async with server.join("Alice", "lobby") as alice:
        await alice.send("clientSendMessage", {"text": "hello"})
        await alice.receive()
    wait_printed(server, "messages_in")
    server.stop()
    found = records(server)
    loggers = {each["logger"] for each in found}
    assert {"uvicorn.error", "uvicorn.access"} <= loggers
    [end] = [each for each in found if "messages_in" in each]
    assert end["level"] == "info"
    assert (end["user_id"], end["messages_in"], end["close_code"]) == ("Alice", 1, 1000)
    assert end["room"].endswith("lobby")
    assert end["route"].endswith("/{room_name}")
    assert end["bytes_in"] > 0 < end["bytes_out"]
    assert end["messages_out"] >= 4
    accepted = [each for each in found if each["message"].endswith("[accepted]")]
    assert accepted[0]["connection_id"] == end["connection_id"]


async def test_production_writes_json_under_another_command_too(
    serve: Callable[..., Server],
) -> None:
    command = ("-m", "uvicorn", f"{PACKAGE}.asgi:app")
    server = serve(*command, "--port", "0", APP_ENVIRONMENT="production")
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as client:
        client.sendall(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(1_000)
    wait_printed(server, "404")
    server.stop()
    lines = server.output().removesuffix("\n").split("\n")
    decoded = [json.loads(line) for line in lines if line.startswith("{")]
    assert any("404" in each["message"] for each in decoded)
