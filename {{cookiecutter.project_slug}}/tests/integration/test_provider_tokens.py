"""Access tokens of the identity provider, checked with keys that rotate and a provider that fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from falcon_pachinko import ProviderUnavailable
from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Closed, Served

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.oidc.claims import ClaimNames
from {{ cookiecutter.package_name }}.oidc.client import ProviderClient
from {{ cookiecutter.package_name }}.oidc.provider import OpenIdProvider

from ..provider import AUDIENCE, CLIENT_ID, TestProvider, running_provider

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import ServeApp

    from ..conftest import MakeSettings

pytestmark = pytest.mark.slow

WAIT_SECONDS = 20.0
COOLDOWN_SECONDS = 0.5
STEP_SECONDS = 0.05

OpenReader = Callable[..., OpenIdProvider]


@pytest.fixture
def provider() -> Iterator[TestProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
async def open_reader(provider: TestProvider) -> AsyncIterator[OpenReader]:
    """Create what reads the provider's tokens, with a cooldown."""
    opened = []

    def open_reader(cooldown_seconds: float = 30.0) -> OpenIdProvider:
        client = ProviderClient(provider.issuer, client_id=CLIENT_ID)
        reader = OpenIdProvider(
            client, ClaimNames(), audience=AUDIENCE, cooldown_seconds=cooldown_seconds
        )
        opened.append(reader)
        return reader

    yield open_reader
    for reader in opened:
        await reader.aclose()


@pytest.fixture
async def reader(open_reader: OpenReader) -> OpenIdProvider:
    return open_reader()


@pytest.fixture
async def chat(serve_app: ServeApp, make_settings: MakeSettings, provider: TestProvider) -> Served:
    application = app.create_app(make_settings(**provider.settings()))
    return await serve_app(application, **WEBSOCKET_OPTIONS)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def name_of(reader: OpenIdProvider, token: str) -> str | None:
    session = await reader.read(token)
    return None if session is None else session.user.name


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_program_chats_with_a_token_of_the_provider(
    chat: Served, provider: TestProvider, websocket_path: str
) -> None:
    token = provider.access_token(sid="s1", exp=time.time() + 300)
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, headers=bearer(token), timeout=WAIT_SECONDS
    ) as program:
        session = (await program.get("/session")).json()
        assert session["user"] == {"id": "auth0|5f7c", "name": "Alice", "roles": ["staff"]}
        refreshed = await program.post("/session/refresh", json={})
        assert refreshed.status_code == 401, "the provider issues its next token"
        async with chat.connect(f"{websocket_path}/staff", headers=bearer(token)) as client:
            await client.receive_until(ServerPosition)
            await client.send({"type": "clientRefreshSession", "payload": {"token": token}})
            while (message := await client.receive())["type"] != "serverSessionRefreshed":
                pass
            assert 0 < message["payload"]["expiresInSeconds"] <= 300
            assert (await program.delete("/session")).json() == {"logoutUrl": None}
            with pytest.raises(Closed) as closed:
                await client.receive_until(ServerPosition)
            assert closed.value.code == 4401
        assert (await program.get("/session")).json()["user"] is None


async def test_a_ticket_does_not_turn_a_token_of_the_provider_into_a_longer_session(
    chat: Served, provider: TestProvider
) -> None:
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, timeout=WAIT_SECONDS
    ) as program:
        headers = bearer(provider.access_token())
        issued = await program.post("/session/ticket", json={}, headers=headers)
        headers = bearer(issued.json()["ticket"])
        assert (await program.post("/session/refresh", json={}, headers=headers)).status_code == 401


async def test_an_outage_is_503_and_1013_and_never_a_sign_out(
    chat: Served,
    provider: TestProvider,
    websocket_path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = provider.access_token()
    provider.stop()
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, headers=bearer(token), timeout=WAIT_SECONDS
    ) as program:
        for _ in range(3):
            response = await program.get("/session")
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
    async with chat.connect(f"{websocket_path}/general", headers=bearer(token)) as client:
        with pytest.raises(Closed) as closed:
            await client.receive()
    assert closed.value.code == 1013
    warnings = [record for record in caplog.records if "is unavailable" in record.getMessage()]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    provider.start()


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {"aud": "https://another.example"}),
        ({}, {"aud": None}),
        ({}, {"iss": "https://evil.example"}),
        ({}, {"exp": 1}),
        ({}, {"exp": None}),
        ({}, {"exp": float("inf")}),
        ({}, {"iat": None}),
        ({}, {"nonce": "n"}),
        ({}, {"at_hash": "h"}),
        ({}, {"typ": "ID"}),
        ({"typ": "logout+jwt"}, {}),
        ({}, {"sub": " "}),
        ({}, {"sub": ["a"]}),
    ],
    ids=repr,
)
async def test_another_token_is_not_accepted(
    reader: OpenIdProvider,
    provider: TestProvider,
    header: dict[str, Any],
    claims: dict[str, Any],
) -> None:
    assert await name_of(reader, provider.access_token()) == "Alice"
    assert await name_of(reader, provider.access_token(header, **claims)) is None


# The headers of the last two are ["alg"] and "alg".
@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a.b.c", "é.b.c", "e30.e30.", "." * 99, "[" * 9),
        *("WyJhbGciXQ.e30.x", "ImFsZyI.e30.x"),
    ],
)
async def test_any_other_text_costs_no_request(
    reader: OpenIdProvider, provider: TestProvider, text: str
) -> None:
    assert await reader.read(text) is None
    assert not provider.requests


async def test_an_audience_in_a_list_and_a_token_without_a_type_are_accepted(
    reader: OpenIdProvider, provider: TestProvider
) -> None:
    assert await name_of(reader, provider.access_token(aud=["account", AUDIENCE])) == "Alice"
    assert await name_of(reader, provider.access_token({"typ": "JWT"})) == "Alice"


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
async def test_a_token_without_an_asymmetric_signature_is_refused(
    reader: OpenIdProvider, provider: TestProvider, algorithm: str
) -> None:
    """SECURITY: the public key, which anybody knows, must not be a secret for HS256."""
    assert await name_of(reader, provider.access_token()) == "Alice"
    known = json.dumps(provider.keys[0].as_dict(private=False)).encode()
    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "u1", "iat": now, "exp": now + 60}
    header = {"alg": algorithm, "kid": provider.keys[0].kid}
    parts = [base64url(json.dumps(header).encode()), base64url(json.dumps(claims).encode())]
    signed = ".".join(parts).encode()
    signature = hmac.digest(known, signed, "sha256") if algorithm == "HS256" else b""
    assert await reader.read(f"{signed.decode()}.{base64url(signature)}") is None


async def test_forged_tokens_with_unknown_keys_cause_one_request(
    reader: OpenIdProvider, provider: TestProvider
) -> None:
    valid = provider.access_token()
    assert await name_of(reader, valid) == "Alice"
    old = time.time() - 3600
    forged = [provider.access_token({"kid": f"k{i}"}, iat=old) for i in range(50)]
    assert await asyncio.gather(*map(reader.read, forged)) == [None] * 50
    newer = [provider.access_token({"kid": f"n{i}"}) for i in range(50)]
    for token in newer:
        with pytest.raises(ProviderUnavailable):
            await reader.read(token)
    assert await name_of(reader, valid) == "Alice"
    assert provider.requests["/keys"] == 1
    assert provider.requests["/.well-known/openid-configuration"] == 1


async def test_keys_rotate_without_a_sign_out(
    open_reader: OpenReader, provider: TestProvider
) -> None:
    reader = open_reader(COOLDOWN_SECONDS)
    before = provider.access_token()
    assert await name_of(reader, before) == "Alice"
    provider.rotate()
    after = provider.access_token()

    async with asyncio.timeout(WAIT_SECONDS):
        assert await final_name_of(reader, after) == "Alice"
    assert await name_of(reader, before) == "Alice"
    assert provider.requests["/keys"] == 2
    provider.rotate(keep=False)
    async with asyncio.timeout(WAIT_SECONDS):
        assert await final_name_of(reader, provider.access_token()) == "Alice"
        assert await final_name_of(reader, before) is None, "the provider has withdrawn the key"


async def final_name_of(reader: OpenIdProvider, token: str) -> str | None:
    """Return the name in a token once its key is known, or known to be missing."""
    while True:
        with contextlib.suppress(ProviderUnavailable):
            return await name_of(reader, token)
        await asyncio.sleep(STEP_SECONDS)


async def test_known_keys_are_used_during_an_outage(
    open_reader: OpenReader, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    reader = open_reader(COOLDOWN_SECONDS)
    token = provider.access_token()
    assert await name_of(reader, token) == "Alice"
    provider.stop()
    assert await name_of(reader, token) == "Alice"
    provider.rotate()

    async with asyncio.timeout(WAIT_SECONDS):
        while "is unavailable" not in caplog.text:
            with pytest.raises(ProviderUnavailable):
                await reader.read(provider.access_token())
            await asyncio.sleep(STEP_SECONDS)
    assert await name_of(reader, token) == "Alice"
    provider.start()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await final_name_of(reader, provider.access_token()) == "Alice"
    assert caplog.text.count("is unavailable") == 1
    assert caplog.text.count("has recovered") == 1


async def test_concurrent_programs_share_one_request(
    reader: OpenIdProvider, provider: TestProvider
) -> None:
    tokens = [provider.access_token() for _ in range(20)]
    sessions = await asyncio.gather(*map(reader.read, tokens))
    assert None not in sessions
    assert provider.requests["/keys"] == 1


async def test_a_caller_that_gives_up_does_not_end_the_request_of_others(
    reader: OpenIdProvider, provider: TestProvider
) -> None:
    token = provider.access_token()
    first, second = (asyncio.create_task(reader.read(token)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert provider.requests["/keys"] == 1


async def test_a_token_from_a_clock_ahead_is_refused_with_the_difference(
    reader: OpenIdProvider, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    assert await name_of(reader, provider.access_token(iat=now + 25, nbf=now + 25)) == "Alice"
    assert await name_of(reader, provider.access_token(iat=now + 60)) is None
    assert re.search(r"'iat' is (59|60) s ahead of this machine's clock", caplog.text)


async def test_without_an_audience_no_token_of_the_provider_is_accepted(
    serve_app: ServeApp, make_settings: MakeSettings, provider: TestProvider
) -> None:
    settings = make_settings(**provider.settings() | {"oidc_audience": ""})
    chat = await serve_app(app.create_app(settings), **WEBSOCKET_OPTIONS)
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, timeout=WAIT_SECONDS
    ) as program:
        response = await program.get("/session", headers=bearer(provider.access_token()))
    assert response.json()["user"] is None
    assert not provider.requests
