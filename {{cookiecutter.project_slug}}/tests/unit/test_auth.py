"""Tokens, and how a request carries one."""

from __future__ import annotations

import time
from typing import Any

import falcon.asgi
import falcon.testing
import jwt
import pytest

from {{ cookiecutter.package_name }} import auth

ALICE = auth.User("Alice")
OTHER_SECRET = "another-secret-of-thirty-two-bytes-or-more"


def request(**headers: str) -> falcon.asgi.Request:
    return falcon.testing.create_asgi_req(headers=headers)


def signed(secret: str, **claims: Any) -> str:
    """Return a valid token, except for the given claims; ``None`` omits a claim."""
    now = int(time.time())
    all_claims = {"sub": "Alice", "iat": now, "exp": now + 60} | claims
    kept = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(kept, secret, algorithm="HS256")


async def test_a_token_identifies_its_user(secret: str) -> None:
    user = auth.User("Zoë 房间 😀 <b>")
    assert await auth.authenticate(auth.issue_token(user, secret, 60), secret) == user


def test_a_token_has_its_lifetime_in_its_claims(secret: str) -> None:
    before = int(time.time())
    token = auth.issue_token(ALICE, secret, 60)
    claims = jwt.decode(token, secret, algorithms=["HS256"])
    assert claims.keys() == {"sub", "iat", "exp"}
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 60


async def test_an_expired_token_is_refused(secret: str) -> None:
    assert await auth.authenticate(auth.issue_token(ALICE, secret, -1), secret) is None


async def test_a_token_signed_with_another_secret_is_refused(secret: str) -> None:
    assert await auth.authenticate(auth.issue_token(ALICE, OTHER_SECRET, 60), secret) is None


async def test_an_unsigned_token_is_refused(secret: str) -> None:
    claims = {"sub": "Alice", "exp": int(time.time()) + 60}
    assert await auth.authenticate(jwt.encode(claims, "", algorithm="none"), secret) is None


async def test_a_token_of_another_algorithm_is_refused(secret: str) -> None:
    key = secret * 2
    claims = {"sub": "Alice", "exp": int(time.time()) + 60}
    assert await auth.authenticate(jwt.encode(claims, key, algorithm="HS512"), key) is None


@pytest.mark.parametrize(
    "name", ["", "..", " Alice", "Ali\nce", "Ali\u202ece", "e\u0301", "x" * 256]
)
async def test_a_valid_token_with_an_invalid_name_is_refused_and_logged(
    secret: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await auth.authenticate(signed(secret, sub=name), secret) is None
    [warning] = caplog.messages
    assert warning.startswith("a valid token is refused: the user ")
    assert warning.isprintable()


async def test_a_token_with_altered_claims_is_refused(secret: str) -> None:
    head, _, signature = auth.issue_token(ALICE, secret, 60).split(".")
    claims = auth.issue_token(auth.User("Mallory"), OTHER_SECRET, 60).split(".")[1]
    assert await auth.authenticate(f"{head}.{claims}.{signature}", secret) is None


@pytest.mark.parametrize(
    "claims",
    [{"sub": None}, {"exp": None}, {"sub": 7}, {"exp": "soon"}, {"nbf": 4102444800}],
    ids=str,
)
async def test_a_token_with_missing_or_invalid_claims_is_refused(
    secret: str, claims: dict[str, Any]
) -> None:
    assert await auth.authenticate(signed(secret), secret) == ALICE
    assert await auth.authenticate(signed(secret, **claims), secret) is None


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "....", "é.é.é", "eyJhbGciOiJIUzI1NiJ9.e30."])
async def test_text_that_is_not_a_token_is_refused(secret: str, token: str) -> None:
    assert await auth.authenticate(token, secret) is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    assert auth.token_of(request(Authorization=f"{scheme} abc")) == "abc"


def test_white_space_around_a_token_is_ignored() -> None:
    assert auth.token_of(request(Authorization="Bearer   abc ")) == "abc"


def test_a_token_is_read_from_the_cookie() -> None:
    assert auth.token_of(request(Cookie="other=1; session=abc")) == "abc"


def test_the_header_takes_precedence_over_the_cookie() -> None:
    assert auth.token_of(request(Authorization="Bearer abc", Cookie="session=def")) == "abc"


@pytest.mark.parametrize("header", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearerabc", ""])
def test_a_header_without_a_bearer_token_does_not_hide_the_cookie(header: str) -> None:
    assert auth.token_of(request(Authorization=header, Cookie="session=def")) == "def"
    assert auth.token_of(request(Authorization=header)) is None


def test_a_request_without_header_and_cookie_has_no_token() -> None:
    assert auth.token_of(request()) is None


async def test_the_middleware_sets_the_user_of_a_request(secret: str) -> None:
    token = auth.issue_token(ALICE, secret, 60)
    req = request(Authorization=f"Bearer {token}")
    await auth.AuthMiddleware(secret).process_request(req, None)
    assert req.context.user == ALICE


async def test_the_cookie_does_not_replace_an_invalid_header(secret: str) -> None:
    token = auth.issue_token(ALICE, secret, 60)
    req = request(Authorization="Bearer abc", Cookie=f"session={token}")
    await auth.AuthMiddleware(secret).process_request(req, None)
    assert req.context.user is None


async def test_a_request_without_a_token_has_no_user(secret: str) -> None:
    req = request()
    await auth.AuthMiddleware(secret).process_request(req, None)
    assert req.context.user is None
