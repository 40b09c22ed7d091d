"""Session tokens: what they contain, and which are refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest

from {{ cookiecutter.package_name }} import settings, tokens
from {{ cookiecutter.package_name }}.users import MAX_ROLES_BYTES, User

OTHER_SECRET = "another-secret-of-thirty-two-bytes-or-more"
ALICE = User("u1", "Alice", frozenset({"staff"}))


def make(*secrets: str, **options: Any) -> tokens.Tokens:
    values: dict[str, Any] = {"environment": "test"}
    values |= {"lifetime_seconds": 60, "session_seconds": 3600} | options
    return tokens.Tokens(secrets, issuer=settings.PACKAGE, **values)


@pytest.fixture
def made(secret: str) -> tokens.Tokens:
    return make(secret)


def signed(secret: str, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a valid token, except for the given claims; ``None`` omits a claim."""
    now = time.time()
    all_claims = {
        "iss": settings.PACKAGE,
        "aud": f"{settings.PACKAGE}:test",
        "sub": "u1",
        "name": "Alice",
        "roles": [],
        "sid": "s1",
        "jti": "j1",
        "iat": now,
        "exp": now + 60,
        "auth_time": now,
    } | claims
    kept = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(kept, secret, algorithm=algorithm)


def test_a_token_identifies_its_user_and_session(made: tokens.Tokens) -> None:
    token, session = made.start(User("ü|1", "Zoë 房间 😀 <b>", frozenset({"a", "b"})))
    assert made.read(token) == session
    assert session.user.id == "ü|1"
    assert session.user.roles == {"a", "b"}
    assert session.user.session_id
    assert session.issued_at == session.signed_in_at == pytest.approx(time.time(), abs=5)
    assert session.user.expires_at == pytest.approx(session.issued_at + 60, abs=1)


def test_a_token_has_the_claims_of_a_session(made: tokens.Tokens, secret: str) -> None:
    token, session = made.start(ALICE)
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience=made.audience)
    assert claims.keys() == {*tokens.REQUIRED_CLAIMS, "roles"}
    assert claims["iss"] == settings.PACKAGE
    assert claims["aud"] == f"{settings.PACKAGE}:test"
    assert (claims["sub"], claims["name"], claims["roles"]) == ("u1", "Alice", ["staff"])
    assert claims["sid"] == session.user.session_id
    again = jwt.decode(made.start(ALICE)[0], secret, algorithms=["HS256"], audience=made.audience)
    assert {again["sid"], again["jti"]}.isdisjoint({claims["sid"], claims["jti"]})


def test_a_refreshed_token_is_of_the_same_session(made: tokens.Tokens) -> None:
    token, session = made.start(ALICE)
    refreshed = made.refresh(session)
    assert refreshed is not None
    later_token, later = refreshed
    assert later_token != token
    assert later.user.session_id == session.user.session_id
    assert later.signed_in_at == session.signed_in_at
    assert later.issued_at >= session.issued_at
    assert made.read(later_token) == later


def test_a_session_ends_however_often_it_is_refreshed(secret: str) -> None:
    made = make(secret, lifetime_seconds=60, session_seconds=100)
    now = time.time()
    session = tokens.Session(ALICE, now - 1, now - 90)
    refreshed = made.refresh(session)
    assert refreshed is not None
    assert refreshed[1].user.expires_at == int(now + 10)
    assert made.refresh(tokens.Session(ALICE, now - 1, now - 101)) is None


def test_the_largest_user_fits_into_a_cookie(made: tokens.Tokens) -> None:
    roles = frozenset(f"role-{number:03}" for number in range(66))
    assert len(json.dumps(sorted(roles))) <= MAX_ROLES_BYTES
    token, session = made.start(User("é" * 127, "😀" * 63, roles))
    assert made.read(token) == session
    assert len(token) < 4096 - len("__Secure-" + "x" * 100 + "-session=")
    assert len(made.seal(session)) <= 4096


def test_an_expired_token_is_refused_at_once(secret: str, made: tokens.Tokens) -> None:
    assert made.read(signed(secret, exp=time.time() + 5)) is not None
    assert made.read(signed(secret, exp=time.time() - 0.001)) is None
    assert made.read(signed(secret, exp=time.time() - 20)) is None


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_the_clock_of_another_machine_may_be_ahead_by_thirty_seconds(
    secret: str, made: tokens.Tokens, claim: str
) -> None:
    for seconds, is_valid in ((25, True), (40, False)):
        claims: dict[str, Any] = {claim: time.time() + seconds}
        assert (made.read(signed(secret, **claims)) is not None) is is_valid


def test_a_token_signed_with_another_secret_is_refused(made: tokens.Tokens) -> None:
    assert made.read(make(OTHER_SECRET).start(ALICE)[0]) is None


def test_a_previous_secret_is_accepted_and_not_used(secret: str, made: tokens.Tokens) -> None:
    rotated = make(OTHER_SECRET, secret)
    old, _ = made.start(ALICE)
    assert rotated.read(old) is not None
    new, _ = rotated.start(ALICE)
    assert rotated.read(new) is not None
    assert made.read(new) is None
    assert make(OTHER_SECRET).read(old) is None


def test_a_token_of_development_is_worthless_in_production(secret: str) -> None:
    development = make(secret, environment="development").start(ALICE)[0]
    assert make(secret, environment="production").read(development) is None
    assert make(secret, environment="development").read(development) is not None


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other:test"},
        {"aud": f"{settings.PACKAGE}"},
        {"aud": None},
        {"iss": "other"},
        {"iss": None},
        {"sub": None},
        {"name": None},
        {"sid": None},
        {"jti": None},
        {"iat": None},
        {"exp": None},
        {"auth_time": None},
        {"sub": 7},
        {"name": ["Alice"]},
        {"roles": 7},
        {"roles": [7]},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"auth_time": "yesterday"},
    ],
    ids=str,
)
def test_a_token_with_missing_or_other_claims_is_refused(
    secret: str, made: tokens.Tokens, claims: dict[str, Any]
) -> None:
    assert made.read(signed(secret)) is not None
    assert made.read(signed(secret, **claims)) is None


def test_an_unsigned_token_is_refused(made: tokens.Tokens) -> None:
    assert made.read(signed("", algorithm="none")) is None


def test_a_token_of_another_algorithm_is_refused(secret: str) -> None:
    key = secret * 2
    assert make(key).read(signed(key, algorithm="HS512")) is None


def test_a_token_with_altered_claims_is_refused(made: tokens.Tokens) -> None:
    head, _, signature = made.start(ALICE)[0].split(".")
    claims = make(OTHER_SECRET).start(User("m", "Mallory"))[0].split(".")[1]
    assert made.read(f"{head}.{claims}.{signature}") is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "....",
        "é.é.é",
        "\ud800.a.b",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        base64.urlsafe_b64encode(b"[" * 5_000).decode().rstrip("=") + ".e30.x",
        "a." * 5_000,
    ],
    ids=range(9),
)
def test_text_that_is_not_a_token_is_refused(made: tokens.Tokens, token: str) -> None:
    assert made.read(token) is None


@pytest.mark.parametrize("name", ["", "..", " Alice", "Ali\nce", "Ali\u202ece", "x" * 256])
def test_a_valid_token_of_an_invalid_user_is_refused_and_logged(
    secret: str, made: tokens.Tokens, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert made.read(signed(secret, sub=name)) is None
    [warning] = caplog.messages
    assert warning.startswith("a valid token is refused: the user ")
    assert warning.isprintable()


def test_the_value_of_a_ticket_is_not_a_token(made: tokens.Tokens) -> None:
    token, session = made.start(ALICE)
    sealed = made.seal(session)
    assert made.unseal(sealed) == session
    assert made.read(sealed) is None
    assert made.unseal(token) is None
