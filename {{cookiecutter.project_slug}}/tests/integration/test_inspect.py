"""The page ``/inspect`` and what is behind it: in development only, and for this page only."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import falcon.testing
import httpx
import pytest

from falcon_pachinko import App
from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Client

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.messages import (
    ServerNewMessage,
    ServerSystemAnnouncement,
)

from ..conftest import WAIT_SECONDS, Server, token_of
from ..valkey import running_valkey

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import OpenClient, ServeApp

    from ..conftest import MakeSettings

URL = "/inspect.json"
DISCONNECT = {"command": "disconnect", "user": "Alice"}
FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example"},
    {"Host": "evil.example", "Origin": "http://evil.example"},
)

Enter = Callable[[str], Awaitable[Client]]


@pytest.fixture
def application(make_settings: MakeSettings) -> App:
    """The service in development, with the widest settings for foreign pages."""
    return app.create_app(make_settings(environment="development", allowed_origins=["*"]))


@pytest.fixture
async def page(
    serve_app: ServeApp, open_client: OpenClient, application: App, websocket_path: str, room: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Enter]]:
    """Requests to the served application, and a function that connects a user to the room."""
    service = await serve_app(application, **WEBSOCKET_OPTIONS)

    async def enter(name: str) -> Client:
        headers = {"Authorization": f"Bearer {token_of(name, environment='development')}"}
        client = await open_client(service, f"{websocket_path}/{room}", headers=headers)
        await client.receive_until(ServerPosition)
        return client

    # PERF: the client would read all certificates of authorities, and there is no TLS.
    async with httpx.AsyncClient(
        base_url=service.origin, trust_env=False, verify=False
    ) as requests:
        yield requests, enter


Page = tuple[httpx.AsyncClient, Enter]


@pytest.mark.parametrize(
    "given",
    [
        {"environment": "production"},
        {"environment": "test"},
        {"environment": "development", "allow_insecure": True},
    ],
)
async def test_it_exists_in_development_only(
    make_settings: MakeSettings, given: dict[str, Any]
) -> None:
    async with falcon.testing.ASGIConductor(app.create_app(make_settings(**given))) as client:
        assert (await client.simulate_get("/docs")).status_code == 200
        for method, path in (("GET", "/inspect"), ("GET", URL), ("POST", URL)):
            response = await client.simulate_request(method, path, json=DISCONNECT)
            assert response.status_code == 404, (method, path)


async def test_the_page_and_all_that_it_loads_is_served(page: Page) -> None:
    requests, _ = page
    response = await requests.get("/inspect")
    assert response.status_code == 200
    assert "script-src 'self'" in response.headers["content-security-policy"]
    assert not re.search(r"<style\b|\sstyle=|\son\w+=", response.text)
    addresses = set(re.findall(r'\b(?:src|href)="([^"#][^"]*)"', response.text))
    assert len(addresses) >= 5
    for address in addresses:
        assert not address.startswith("/"), address
        assert (await requests.get(f"/{address}")).status_code == 200, address


async def test_the_state_has_rooms_connections_and_numbers_of_events(page: Page, room: str) -> None:
    requests, enter = page
    alice, _ = await enter("Alice"), await enter("Bob")
    before = (await requests.get(URL)).json()["processes"][0]["counts"]
    await alice.send("clientSendMessage", {"text": "hello"})
    await alice.receive_until(ServerNewMessage)
    response = await requests.get(URL)
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["problem"] == ""
    [process] = response.json()["processes"]
    assert process["pid"] == os.getpid()
    assert process["rooms"] == [{"name": room, "users": 2, "connections": 2}]
    assert {each["user"] for each in process["connections"]} == {"Alice", "Bob"}
    assert process["counts"]["accepts"] == 2
    assert process["counts"]["messages_in"] == before["messages_in"] + 1
    assert process["counts"]["messages_out"] >= before["messages_out"] + 2
    assert process["redis"] is None
    [process] = (await requests.get(URL, params={"user": "Bob"})).json()["processes"]
    assert [each["user"] for each in process["connections"]] == ["Bob"]


async def test_actions_are_carried_out(page: Page) -> None:
    requests, enter = page
    own = {"Origin": str(requests.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    alice, bob = await enter("Alice"), await enter("Bob")

    done = await requests.post(URL, json={"command": "announce", "text": "Tea!"}, headers=own)
    assert (done.status_code, done.json()) == (200, {"rooms": 1})
    for client in (alice, bob):
        [*_, announcement] = await client.receive_until(ServerSystemAnnouncement)
        assert announcement.text == "Tea!"

    done = await requests.post(URL, json=DISCONNECT, headers=own)
    assert (done.status_code, done.json()) == (200, {"done": True})
    assert (await alice.wait_closed())[0] == 1000

    ban = {"command": "restrict", "change": "ban", "user": "Bob", "seconds": 60}
    assert (await requests.post(URL, json=ban, headers=own)).status_code == 200
    assert (await bob.wait_closed())[0] == 4403


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_page_learns_and_changes_nothing(
    page: Page, headers: dict[str, str], room: str
) -> None:
    requests, enter = page
    await enter("Alice")
    for method in ("GET", "POST"):
        response = await requests.request(method, URL, json=DISCONNECT, headers=headers)
        assert response.status_code in (400, 403), method
        assert room not in response.text
        assert "access-control-allow-origin" not in response.headers
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    response = await requests.options(URL, headers=preflight)
    assert "access-control-allow-origin" not in response.headers
    assert (await requests.get(URL)).json()["processes"][0]["connection_count"] == 1


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"command":"disconnect","user":"Alice"}', "text/plain", 415),
        (b'{"command":"disconnect","user":"Alice"}', "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"command":"tail","seconds":1}', "application/json", 422),
        (b'{"command":"disconnect"}', "application/json", 422),
        (b'{"command":"restrict","change":"ban","user":"Alice"}', "application/json", 422),
    ],
)
async def test_another_body_changes_nothing_and_gets_the_reason(
    page: Page, body: bytes, content_type: str, status: int
) -> None:
    requests, enter = page
    await enter("Alice")
    response = await requests.post(URL, content=body, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert response.json()["title"]
    assert (await requests.get(URL)).json()["processes"][0]["connection_count"] == 1


@pytest.mark.slow
async def test_the_requests_of_the_page_are_not_in_the_access_log(
    serve: Callable[..., Server],
) -> None:
    server = serve(APP_ENVIRONMENT="development")
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as requests:
        assert (await requests.get(URL)).status_code == 200
        assert (await requests.get(URL, params={"user": "x"})).status_code == 200
        assert (await requests.get(URL, headers={"Origin": "null"})).status_code == 403
        assert (await requests.post(URL, json=DISCONNECT)).status_code == 200
    server.stop()
    logged = re.findall(r'"(\w+) /inspect\.json\S* HTTP/1\.1" (\d+)', server.output())
    assert logged == [("GET", "403"), ("POST", "200")]


@pytest.mark.redis
async def test_all_processes_and_the_state_of_redis_are_shown(
    serve: Callable[..., Server],
) -> None:
    with running_valkey() as valkey:
        settings = {"APP_BACKEND_URL": valkey.url, "APP_DATABASE_URL": "none"}
        servers = [serve(APP_ENVIRONMENT="development", **settings) for _ in range(2)]
        async with httpx.AsyncClient(
            base_url=servers[0].url, trust_env=False, timeout=WAIT_SECONDS
        ) as requests:

            async def processes() -> list[dict[str, Any]]:
                response = await requests.get(URL)
                assert response.status_code == 200
                found: list[dict[str, Any]] = response.json()["processes"]
                return found

            found = await processes()
            assert {each["pid"] for each in found} == {each.process.pid for each in servers}
            for process in found:
                assert process["redis"]["outage"] == ""
                assert process["redis"]["calls"] > 0
            valkey.kill()
            async with asyncio.timeout(WAIT_SECONDS):
                while not all(each["redis"]["outage"] for each in await processes()):
                    pass
            failed = await requests.post(URL, json={"command": "announce", "text": "Tea!"})
            assert failed.status_code == 503
            assert failed.json()["description"].startswith("announced to no room: ")
