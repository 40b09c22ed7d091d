"""How a request proves its session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import falcon.asgi
import falcon.testing
import pytest

from falcon_pachinko import ProviderUnavailable, WebSocketConnectionManager

from {{ cookiecutter.package_name }} import auth
from {{ cookiecutter.package_name }}.cookies import (
    SESSION_COOKIE,
    SessionCookie,
)
from {{ cookiecutter.package_name }}.tokens import Session, Tokens
from {{ cookiecutter.package_name }}.users import User

if TYPE_CHECKING:
    from ..conftest import MakeSettings


@pytest.fixture
def authenticator(make_settings: MakeSettings) -> auth.Authenticator:
    made = auth.Authenticator(Tokens.of(make_settings()))
    made.manager = WebSocketConnectionManager()
    return made


@pytest.fixture
def middleware(authenticator: auth.Authenticator) -> auth.AuthMiddleware:
    return auth.AuthMiddleware(authenticator, SessionCookie(always_secure=False))


@pytest.fixture
def token(authenticator: auth.Authenticator) -> str:
    return authenticator.tokens.start(User("u1", "Alice"))[0]


def request(query: str = "", **headers: str) -> falcon.asgi.Request:
    return falcon.testing.create_asgi_req(headers=headers, query_string=query)


async def user_of(
    middleware: auth.AuthMiddleware, req: falcon.asgi.Request, *, handshake: bool = False
) -> str | None:
    if handshake:
        await middleware.process_request_ws(req, None)  # type: ignore[arg-type]
    else:
        await middleware.process_request(req, falcon.asgi.Response())
    user: User | None = req.context.user
    assert (user is None) == (req.context.session is None) == (req.context.proof is None)
    return None if user is None else user.id


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR  "])
async def test_the_scheme_is_case_insensitive(
    middleware: auth.AuthMiddleware, token: str, scheme: str
) -> None:
    req = request(Authorization=f"{scheme} {token} ")
    assert await user_of(middleware, req) == "u1"
    assert req.context.proof == auth.BEARER


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearerabc", ""])
async def test_a_header_without_a_bearer_token_does_not_hide_the_cookie(
    middleware: auth.AuthMiddleware, token: str, header: str
) -> None:
    req = request(Authorization=header, Cookie=f"{SESSION_COOKIE}={token}")
    assert await user_of(middleware, req) == "u1"
    assert req.context.proof == auth.COOKIE
    assert await user_of(middleware, request(Authorization=header)) is None


async def test_the_cookie_does_not_replace_an_invalid_header(
    middleware: auth.AuthMiddleware, token: str
) -> None:
    req = request(Authorization="Bearer abc", Cookie=f"{SESSION_COOKIE}={token}")
    assert await user_of(middleware, req) is None


async def test_a_stale_cookie_does_not_hide_a_valid_one(
    middleware: auth.AuthMiddleware, token: str
) -> None:
    for stale in ("garbage", token[:-4] + "AAAA"):
        req = request(Cookie=f"{SESSION_COOKIE}={stale}; {SESSION_COOKIE}={token}")
        assert await user_of(middleware, req) == "u1"


async def test_the_cookie_of_another_service_on_the_host_does_not_count(
    middleware: auth.AuthMiddleware, token: str
) -> None:
    req = request(Cookie=f"session={token}; other-{SESSION_COOKIE}={token}")
    assert await user_of(middleware, req) is None


async def test_a_ticket_opens_one_handshake(
    middleware: auth.AuthMiddleware, authenticator: auth.Authenticator, token: str
) -> None:
    session = authenticator.tokens.read(token)
    assert session is not None
    sealed = authenticator.tokens.seal(session)
    ticket = await authenticator.manager.issue_ticket(sealed, seconds=60)
    assert await user_of(middleware, request(f"ticket={ticket}")) is None, "only for WebSockets"
    req = request(f"ticket={ticket}")
    assert await user_of(middleware, req, handshake=True) == "u1"
    assert req.context.proof == auth.TICKET
    assert req.context.session == session
    assert await user_of(middleware, request(f"ticket={ticket}"), handshake=True) is None


async def test_an_invalid_ticket_is_not_replaced_by_the_cookie(
    middleware: auth.AuthMiddleware, token: str
) -> None:
    req = request("ticket=used", Cookie=f"{SESSION_COOKIE}={token}")
    assert await user_of(middleware, req, handshake=True) is None


async def test_a_token_is_not_a_ticket(middleware: auth.AuthMiddleware, token: str) -> None:
    assert await user_of(middleware, request(f"ticket={token}"), handshake=True) is None


async def test_a_ticket_of_another_use_is_refused(
    authenticator: auth.Authenticator, token: str
) -> None:
    for value in ("u1", token):
        ticket = await authenticator.manager.issue_ticket(value, seconds=60)
        assert await authenticator.authenticate(ticket) is None


async def test_a_revoked_session_opens_nothing(
    authenticator: auth.Authenticator, token: str
) -> None:
    user = await authenticator.authenticate(token)
    assert user is not None
    assert user.session_id is not None
    session = authenticator.tokens.read(token)
    assert session is not None
    ticket = await authenticator.manager.issue_ticket(
        authenticator.tokens.seal(session), seconds=60
    )
    other, _ = authenticator.tokens.start(User("u1", "Alice"))
    await authenticator.manager.revoke_session(user.session_id, seconds=60)
    assert await authenticator.authenticate(token) is None
    assert await authenticator.authenticate(ticket) is None
    assert await authenticator.authenticate(other) is not None
    await authenticator.manager.revoke_sessions("u1", seconds=60)
    assert await authenticator.authenticate(other) is None


async def test_sign_out_everywhere_covers_a_token_that_is_refreshed_while_it_is_under_way(
    authenticator: auth.Authenticator, token: str
) -> None:
    session = authenticator.tokens.read(token)
    assert session is not None
    await authenticator.manager.revoke_sessions(session.user.id, seconds=60)
    refreshed = authenticator.tokens.refresh(session)
    assert refreshed is not None
    assert await authenticator.authenticate(refreshed[0]) is None
    later = time.time() + 0.001
    new = authenticator.tokens.seal(Session(session.user, later, later))
    ticket = await authenticator.manager.issue_ticket(new, seconds=60)
    user = await authenticator.authenticate(ticket)
    assert user is not None
    assert user.signed_in_at == later


async def test_the_token_of_a_provider_is_accepted_as_well(
    authenticator: auth.Authenticator, middleware: auth.AuthMiddleware
) -> None:
    class Stub:
        async def read(self, token: str) -> Session | None:
            if token == "a.b.outage":
                raise ProviderUnavailable("no route to host")
            return Session(User("p1", "Pat"), 0.0, 0.0) if token == "a.b.c" else None

    authenticator.provider = Stub()
    assert await user_of(middleware, request(Authorization="Bearer a.b.c")) == "p1"
    assert await user_of(middleware, request(Authorization="Bearer a.b.d")) is None
    with pytest.raises(ProviderUnavailable):
        await user_of(middleware, request(Authorization="Bearer a.b.outage"))


async def test_a_very_long_token_is_not_parsed(middleware: auth.AuthMiddleware) -> None:
    assert await user_of(middleware, request(Authorization="Bearer " + "a." * 5_000)) is None
