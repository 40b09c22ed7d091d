"""What happens to a session, for a cookie and for a token of the provider, on one node and on two."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from falcon_pachinko.app import App
from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Client, Closed, Served

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from ..conftest import SECRET
from ..provider import TestProvider, running_provider
from ..valkey import running_valkey

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import ServeApp

    from ..conftest import MakeSettings

pytestmark = pytest.mark.slow

WAIT_SECONDS = 20.0
NEW_SECRET = "a-new-secret-that-replaces-the-one-of-the-tests"
LONG_SECONDS = 300


@dataclass
class Session:
    """A session: its cookie or its token, and the end."""

    proof: str
    token: str
    expires_at: float

    @property
    def options(self) -> dict[str, Any]:
        """What a handshake or a request sends."""
        if self.proof == "cookie":
            return {"cookies": {SESSION_COOKIE: self.token}}
        return {"headers": {"Authorization": f"Bearer {self.token}"}}


@dataclass
class Site:
    """A service of one node or two; a client is on the last one, and requests go to the first one.

    Attributes:
        proof: How a session is proved: ``cookie`` or ``bearer``.
        provider: The identity provider.
        start_node: Starts a node with some settings.
        room: The path of a room that no other test uses.
        user: The id of a user that no other test has.
        lifetime: The seconds of a session.
    """

    proof: str
    provider: TestProvider
    start_node: Callable[..., Awaitable[tuple[App, Served]]]
    room: str
    user: str
    lifetime: int
    nodes: list[tuple[App, Served]] = field(default_factory=list)

    @property
    def manager(self) -> Any:
        """The connection manager of the first node."""
        return self.nodes[0][0].ws_connection_manager

    @contextlib.asynccontextmanager
    async def http(self, session: Session | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client of the first node."""
        options = {} if session is None else session.options
        async with httpx.AsyncClient(
            base_url=self.nodes[0][1].origin, trust_env=False, timeout=WAIT_SECONDS, **options
        ) as client:
            yield client

    async def sign_in(self) -> Session:
        """Sign the user in: at the provider for a cookie, or with an access token."""
        if self.proof == "bearer":
            ends = time.time() + self.lifetime
            sid = f"{self.user}-{len(self.provider.requests)}-{time.time()}"
            return Session("bearer", self.provider.access_token(exp=ends, sid=sid), ends)
        async with self.http() as browser:
            begun = await browser.get("/login")
            agreed = await browser.get(begun.headers["Location"])
            assert (await browser.get(agreed.headers["Location"])).status_code == 303
            ends = (await browser.get("/session")).json()["expiresAt"]
            return Session("cookie", browser.cookies[SESSION_COOKIE], ends)

    def connect(
        self, session: Session, node: Served | None = None
    ) -> AbstractAsyncContextManager[Client]:
        """Connect to the room."""
        return (node or self.nodes[-1][1]).connect(self.room, **session.options)

    @contextlib.asynccontextmanager
    async def join(self, session: Session, node: Served | None = None) -> AsyncIterator[Client]:
        """Connect to the room, and receive up to the position."""
        async with self.connect(session, node) as client:
            await client.receive_until(ServerPosition)
            yield client

    async def check_refused(self, session: Session, code: int) -> None:
        """Assert that a session opens nothing."""
        async with self.connect(session) as client:
            await check_closed(client, code)


async def check_closed(client: Client, code: int) -> None:
    """Assert that a connection ends with a code."""
    with pytest.raises(Closed) as closed:
        await client.receive_until(ServerPosition)
    assert closed.value.code == code


async def check_open(client: Client) -> None:
    """Assert that a connection is open and chats."""
    text = f"still here at {time.time()}"
    await client.send({"type": "clientSendMessage", "payload": {"text": text}})
    while (message := await client.receive())["type"] != "serverNewMessage" or (
        message["payload"]["text"] != text
    ):
        assert message["type"] != "serverError", message


async def expiry(site: Site) -> None:
    """The connection ends with the session, within 1.5 s, and nothing opens with it any more."""
    session = await site.sign_in()
    async with site.join(session) as client:
        await client.receive_until("serverSessionExpiring")
        await check_closed(client, 4401)
        assert 0 <= time.time() - session.expires_at <= 1.5
    await site.check_refused(session, 4401)


async def refresh(site: Site) -> None:
    """With a refreshed session the connection continues after the end of the first one."""
    session = await site.sign_in()
    async with site.join(session) as client:
        await asyncio.sleep(max(0.0, session.expires_at - site.lifetime / 2 - time.time()))
        if site.proof == "cookie":
            async with site.http(session) as browser:
                proven = (await browser.post("/session/refresh", json={})).json()["ticket"]
        else:
            proven = (await site.sign_in()).token
        await client.send({"type": "clientRefreshSession", "payload": {"token": proven}})
        await client.receive_until("serverSessionRefreshed")
        # The test is about the time between the two ends.
        await asyncio.sleep(max(0.0, session.expires_at + 1.5 - time.time()))
        await check_open(client)


async def sign_out_here(site: Site) -> None:
    """A sign-out ends the connections of this session, and no other session of the user."""
    session, other = await site.sign_in(), await site.sign_in()
    async with site.join(session) as client, site.join(other) as stays:
        async with site.http(session) as browser:
            assert (await browser.delete("/session")).status_code == 200
        await check_closed(client, 4401)
        await check_open(stays)
    await site.check_refused(session, 4401)


async def sign_out_elsewhere(site: Site) -> None:
    """A sign-out everywhere, from another session, ends the connections of this one."""
    session, other = await site.sign_in(), await site.sign_in()
    async with site.join(session) as client:
        async with site.http(other) as browser:
            assert (await browser.delete("/session?everywhere=true")).status_code == 200
        await check_closed(client, 4401)
    await site.check_refused(session, 4401)


async def ban(site: Site) -> None:
    """A ban closes the connections and refuses new ones, until it is lifted."""
    session = await site.sign_in()
    async with site.join(session) as client:
        await site.manager.ban(site.user, seconds=600)
        await check_closed(client, 4403)
    await site.check_refused(session, 4403)
    await site.manager.unban(site.user)
    async with site.join(session) as client:
        await check_open(client)


async def mute(site: Site) -> None:
    """A muted user stays and is refused, until the mute is lifted."""
    session = await site.sign_in()
    async with site.join(session) as client:
        await site.manager.mute(site.user, seconds=600)
        await client.send({"type": "clientSendMessage", "payload": {"text": "may I?"}})
        refused = (await client.receive_until("serverError"))[-1]
        assert refused["payload"]["code"] == "muted"
        await site.manager.unmute(site.user)
        await check_open(client)


async def provider_down(site: Site) -> None:
    """Nobody is signed out; only a node that has no keys cannot check a token, for now."""
    session = await site.sign_in()
    async with site.join(session) as client:
        site.provider.stop()
        try:
            await check_open(client)
            async with site.join(session) as another:
                await check_open(another)
            _, fresh = await site.start_node()
            if site.proof == "cookie":
                async with site.join(session, fresh) as another:
                    await check_open(another)
            else:
                async with site.connect(session, fresh) as refused:
                    await check_closed(refused, 1013)
            await check_open(client)
        finally:
            site.provider.start()


async def key_rotated(site: Site) -> None:
    """After a rotation of the service's secret and the provider's key, old and new sessions are valid."""
    session = await site.sign_in()
    async with site.join(session) as client:
        site.provider.rotate()
        _, rotated = await site.start_node(secret=NEW_SECRET, secret_previous=SECRET)
        async with site.join(session, rotated) as another:
            await check_open(another)
        async with site.join(await site.sign_in(), rotated) as another:
            await check_open(another)
        await check_open(client)


# The events, with the lifetime of their sessions in seconds.
EVENTS: dict[Callable[[Site], Awaitable[None]], int] = {
    expiry: 4,
    refresh: 6,
    sign_out_here: LONG_SECONDS,
    sign_out_elsewhere: LONG_SECONDS,
    ban: LONG_SECONDS,
    mute: LONG_SECONDS,
    provider_down: LONG_SECONDS,
    key_rotated: LONG_SECONDS,
}


@pytest.fixture
def provider(room: str) -> Iterator[TestProvider]:
    with running_provider() as provider:
        provider.user = {"sub": f"user-{room}", "name": "Alice"}
        yield provider


@pytest.fixture(scope="module")
def backend_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a Valkey server for two nodes; empty for one node."""
    if request.param == "one node":
        yield ""
        return
    with running_valkey() as valkey:
        yield valkey.url


@pytest.mark.parametrize(
    "backend_url", ["one node", pytest.param("two nodes", marks=pytest.mark.redis)], indirect=True
)
@pytest.mark.parametrize("proof", ["cookie", "bearer"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
async def test_an_event_of_a_session_has_its_effect(
    event: Callable[[Site], Awaitable[None]],
    proof: str,
    backend_url: str,
    provider: TestProvider,
    serve_app: ServeApp,
    make_settings: MakeSettings,
    websocket_path: str,
    room: str,
) -> None:
    lifetime = EVENTS[event]

    async def start_node(**given: Any) -> tuple[App, Served]:
        common = {"backend_url": backend_url, "token_lifetime_seconds": lifetime}
        application = app.create_app(make_settings(**provider.settings(), **common, **given))
        return application, await serve_app(application, **WEBSOCKET_OPTIONS)

    site = Site(proof, provider, start_node, f"{websocket_path}/{room}", f"user-{room}", lifetime)
    for _ in range(2 if backend_url else 1):
        site.nodes.append(await start_node())
    await event(site)
