"""A connection follows its session: expiry, refresh, sign-out, bans and mutes, on one node and on two."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from ..conftest import PACKAGE, SECRET, SOURCES, WAIT_SECONDS, running, token_of
from ..valkey import Valkey, running_valkey

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Client, Server

PROOFS = ["bearer", "cookie", "ticket"]
OTHER_SECRET = "another-secret-of-thirty-two-bytes-or-more"


class Site:
    """One or two nodes; a client is on the last one, and requests go to the first one."""

    def __init__(self, nodes: list[Server], valkey: Valkey | None) -> None:
        self.nodes = nodes
        self.valkey = valkey

    async def request(
        self, method: str, path: str, token: str, *, by_cookie: bool = False
    ) -> httpx.Response:
        """Send a request with a token."""
        cookies = {SESSION_COOKIE: token} if by_cookie else {}
        headers = {} if by_cookie else {"Authorization": f"Bearer {token}"}
        url = f"{self.nodes[0].url}{path}"
        async with httpx.AsyncClient(trust_env=False, cookies=cookies, timeout=20) as client:
            if method == "POST":
                return await client.post(url, json={}, headers=headers)
            return await client.request(method, url, headers=headers)

    @asynccontextmanager
    async def connect(self, proof: str, token: str, room: str) -> AsyncIterator[Client]:
        """Connect to a room with a token, and receive up to the position."""
        server = self.nodes[-1]
        options: dict[str, Any]
        if proof == "cookie":
            options = {"cookies": {SESSION_COOKIE: token}, "origin": server.url}
        elif proof == "bearer":
            options = {"token": token}
        else:
            response = await self.request("POST", "/session/ticket", token)
            assert response.status_code == 201
            options = {"query": f"?ticket={response.json()['ticket']}"}
        async with server.connect(room, **options) as client:
            yield client

    @asynccontextmanager
    async def join(self, proof: str, token: str, room: str) -> AsyncIterator[Client]:
        """Connect to a room, and receive up to the position."""
        async with self.connect(proof, token, room) as client:
            await client.receive_until("serverPosition")
            yield client


@pytest.fixture(
    scope="module", params=["one node", pytest.param("two nodes", marks=pytest.mark.redis)]
)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    websocket_path: str,
) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        valkey, variables = None, {"APP_SECRET_PREVIOUS": OTHER_SECRET}
        if request.param == "two nodes":
            valkey = stack.enter_context(running_valkey())
            variables["APP_BACKEND_URL"] = valkey.url
        nodes = []
        for _ in range(1 if valkey is None else 2):
            folder = tmp_path_factory.mktemp("node")
            nodes.append(stack.enter_context(running(folder, websocket_path, (), variables)))
        for node in nodes:
            node.wait_serving()
        yield Site(nodes, valkey)


@pytest.fixture
def user(room: str) -> str:
    """The id of a user that no other test has."""
    return f"user-{room}"


@pytest.mark.parametrize("proof", PROOFS)
async def test_a_connection_ends_with_its_session(
    site: Site, proof: str, user: str, room: str
) -> None:
    token = token_of(user, seconds=4)
    async with site.join(proof, token, room) as client:
        end = (await site.request("GET", "/session", token)).json()["expiresAt"]
        assert (await client.wait_closed())[0] == 4401
        assert 0 <= time.time() - end <= 1.5
    async with site.connect("bearer", token, room) as client:
        assert (await client.wait_closed())[0] == 4401


@pytest.mark.parametrize("proof", PROOFS)
async def test_a_connection_continues_with_a_refreshed_session(
    site: Site, proof: str, user: str, room: str
) -> None:
    token = token_of(user, seconds=6)
    first_end = time.time() + 6
    async with site.join(proof, token, room) as client:
        response = await site.request(
            "POST", "/session/refresh", token, by_cookie=proof == "cookie"
        )
        refresh = response.json()
        proven = refresh["token"] if proof == "bearer" else refresh["ticket"]
        assert ("token" in refresh) == (proof != "cookie")
        assert (SESSION_COOKIE in response.cookies) == (proof == "cookie")
        await client.send("clientRefreshSession", {"token": proven})
        *others, refreshed = await client.receive_until("serverSessionRefreshed")
        assert {each["type"] for each in others} <= {"serverSessionExpiring"}
        assert refreshed["payload"]["expiresInSeconds"] > 20_000
        # The test is about the time after the end of the first token.
        await asyncio.sleep(max(0.0, first_end + 1.5 - time.time()))
        await client.send("clientSendMessage", {"text": "still here"})
        message = (await client.receive_until("serverNewMessage"))[-1]
        assert message["payload"]["text"] == "still here"


async def test_a_ticket_refreshes_once_and_only_its_own_user(
    site: Site, user: str, room: str
) -> None:
    token = token_of(user)
    ticket = (await site.request("POST", "/session/refresh", token)).json()["ticket"]
    async with site.join("bearer", token_of(f"other-{user}"), room) as other:
        await other.send("clientRefreshSession", {"token": ticket})
        assert (await other.wait_closed())[0] == 4401
    async with site.join("bearer", token, room) as client:
        await client.send("clientRefreshSession", {"token": ticket})
        assert (await client.wait_closed())[0] == 4401


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize("everywhere", [False, True])
async def test_sign_out_closes_the_connections_of_the_session(
    site: Site, proof: str, everywhere: bool, user: str, room: str
) -> None:
    token, elsewhere = token_of(user), token_of(user)
    query = "?everywhere=true" if everywhere else ""
    async with (
        site.join(proof, token, room) as tab,
        site.join(proof, token, room) as second_tab,
        site.join("bearer", elsewhere, room) as phone,
    ):
        response = await site.request(
            "DELETE", f"/session{query}", token, by_cookie=proof == "cookie"
        )
        assert response.status_code == 200
        for client in (tab, second_tab):
            assert (await client.wait_closed())[0] == 4401
        if everywhere:
            assert (await phone.wait_closed())[0] == 4401
        else:
            await phone.send("clientSendMessage", {"text": "still here"})
            await phone.receive_until("serverNewMessage")
    for old in (token, elsewhere) if everywhere else (token,):
        async with site.connect("bearer", old, room) as client:
            assert (await client.wait_closed())[0] == 4401
        assert (await site.request("POST", "/session/refresh", old)).status_code == 401
        assert (await site.request("POST", "/session/ticket", old)).status_code == 401
    async with site.join("bearer", token_of(user), room):
        pass  # a new sign-in


async def test_a_ticket_from_before_the_sign_out_opens_nothing(
    site: Site, user: str, room: str
) -> None:
    token = token_of(user)
    ticket = (await site.request("POST", "/session/ticket", token)).json()["ticket"]
    await site.request("DELETE", "/session", token)
    async with site.nodes[-1].connect(room, query=f"?ticket={ticket}") as client:
        assert (await client.wait_closed())[0] == 4401


async def test_a_ticket_opens_one_connection_and_is_not_logged(
    site: Site, user: str, room: str
) -> None:
    ticket = (await site.request("POST", "/session/ticket", token_of(user))).json()["ticket"]
    server = site.nodes[-1]
    async with server.connect(room, query=f"?ticket={ticket}") as client:
        await client.receive_until("serverPosition")
    async with server.connect(room, query=f"?ticket={ticket}") as client:
        assert (await client.wait_closed())[0] == 4401
    for node in site.nodes:
        assert ticket not in node.output()


@pytest.mark.parametrize("proof", PROOFS)
async def test_a_token_of_the_previous_secret_is_valid(
    site: Site, proof: str, user: str, room: str
) -> None:
    async with site.join(proof, token_of(user, secret=OTHER_SECRET), room):
        pass


@pytest.mark.parametrize("proof", PROOFS)
async def test_rooms_of_staff_are_for_staff(site: Site, proof: str, user: str) -> None:
    async with site.connect(proof, token_of(user), "staff-lounge") as client:
        assert (await client.wait_closed())[0] == 4403
    async with site.join(proof, token_of(user, "staff"), "staff-lounge") as client:
        # A refresh without the role ends the connection.
        await client.send("clientRefreshSession", {"token": token_of(user)})
        assert (await client.wait_closed())[0] == 4403


@pytest.mark.parametrize("proof", PROOFS)
async def test_a_private_room_is_for_invited_users(
    site: Site, proof: str, user: str, room: str, command: Callable[..., str]
) -> None:
    private = f"private-{room}"
    link = command("invite", private)
    assert link.startswith("http://127.0.0.1:8000/#private-")
    name = link.partition("#")[2].strip()
    async with site.connect(proof, token_of(user), private) as client:
        assert (await client.wait_closed())[0] == 4403
    async with site.join(proof, token_of(user), name) as client:
        await client.send("clientRefreshSession", {"token": token_of(user)})
        await client.receive_until("serverSessionRefreshed")
        async with site.join("bearer", token_of(f"staff-{user}", "staff"), private):
            joined = (await client.receive_until("serverUserJoined"))[-1]
            assert joined["payload"]["userId"] == f"staff-{user}"
    code = name.partition("~")[2]
    for node in site.nodes:
        assert code not in node.output()


@pytest.fixture
def command(tmp_path: Path, site: Site) -> Callable[..., str]:
    """Run a command of the package, and return its output."""

    def command(*arguments: str) -> str:
        environment = {
            "PYTHONPATH": str(SOURCES),
            "APP_ENVIRONMENT": "test",
            "APP_SECRET": SECRET,
            "APP_BACKEND_URL": site.valkey.url if site.valkey is not None else "",
        }
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS * 2,
            check=True,
        )
        return done.stdout

    return command


# The commands of moderators need Redis.
with_two_nodes = pytest.mark.parametrize(
    "site", [pytest.param("two nodes", marks=pytest.mark.redis)], indirect=True
)


@with_two_nodes
@pytest.mark.parametrize("proof", PROOFS)
async def test_a_ban_closes_connections_and_refuses_new_ones(
    site: Site, proof: str, user: str, room: str, command: Callable[..., str]
) -> None:
    reason = r"You are banned until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\."
    token = token_of(user)
    async with site.join(proof, token, room) as client:
        await asyncio.to_thread(command, "ban", user, "--seconds", "600")
        code, text = await client.wait_closed()
        assert code == 4403
        assert re.fullmatch(reason, text)
    async with site.connect(proof, token, room) as client:
        code, text = await client.wait_closed()
        assert code == 4403
        assert re.fullmatch(reason, text)
    listed = await asyncio.to_thread(command, "restrictions")
    assert re.search(rf"ban +{user} +all rooms +until {text[-21:-1]}\n", listed)
    await asyncio.to_thread(command, "unban", user)
    async with site.join(proof, token, room):
        pass
    assert user not in await asyncio.to_thread(command, "restrictions")
    with pytest.raises(subprocess.CalledProcessError) as ended:
        await asyncio.to_thread(command, "unban", user)
    reason = f"unban: '{user}' has no ban in all rooms: list them with 'restrictions'\n"
    assert ended.value.stderr == reason


@with_two_nodes
async def test_a_ban_may_be_of_one_room(
    site: Site, user: str, room: str, command: Callable[..., str]
) -> None:
    token = token_of(user)
    async with (
        site.join("bearer", token, room) as here,
        site.join("bearer", token, f"{room}-2") as there,
    ):
        await asyncio.to_thread(command, "ban", user, "--room", room)
        assert (await here.wait_closed())[0] == 4403
        await there.send("clientSendMessage", {"text": "still here"})
        await there.receive_until("serverNewMessage")


@with_two_nodes
@pytest.mark.parametrize("proof", PROOFS)
async def test_a_muted_user_is_refused_and_stays(
    site: Site, proof: str, user: str, room: str, command: Callable[..., str]
) -> None:
    async with site.join(proof, token_of(user), room) as client:
        await asyncio.to_thread(command, "mute", user, "--room", room)
        await client.send("clientSendMessage", {"text": "may I?"})
        refused = (await client.receive_until("serverError"))[-1]
        assert refused["payload"]["code"] == "muted"
        assert refused["payload"]["error"].startswith("You are muted until ")
        await asyncio.to_thread(command, "unmute", user, "--room", room)
        await client.send("clientSendMessage", {"text": "thank you"})
        message = (await client.receive_until("serverNewMessage"))[-1]
        assert message["payload"]["text"] == "thank you"


async def test_without_redis_a_sign_out_survives_a_restart(
    tmp_path: Path, websocket_path: str, room: str
) -> None:
    token = token_of("Alice")
    for is_first in (True, False):
        with running(tmp_path, websocket_path, (), {}) as server:
            server.wait_serving()
            if is_first:
                await Site([server], None).request("DELETE", "/session", token)
            async with server.connect(room, token) as client:
                assert (await client.wait_closed())[0] == 4401
    assert (tmp_path / "var" / "restrictions.json").is_file()
