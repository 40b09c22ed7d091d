"""The session cookie."""

from __future__ import annotations

import falcon.asgi
import falcon.testing
import pytest

from {{ cookiecutter.package_name }}.cookies import (
    MAX_COOKIES,
    SESSION_COOKIE,
    SessionCookie,
)


def request(scheme: str = "http", root_path: str = "", cookie: str = "") -> falcon.asgi.Request:
    scope = falcon.testing.create_scope(
        scheme=scheme, root_path=root_path, headers={"Cookie": cookie} if cookie else None
    )
    return falcon.asgi.Request(scope, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("production", "scheme", "root_path", "prefix", "secure"),
    [
        (False, "http", "", "", False),
        (False, "http", "/chat", "", False),
        (False, "https", "", "__Host-", True),
        (False, "wss", "", "__Host-", True),
        (True, "http", "", "__Host-", True),
        (True, "https", "", "__Host-", True),
        (True, "https", "/chat", "__Secure-", True),
    ],
)
def test_a_secure_cookie_has_a_prefix(
    production: bool, scheme: str, root_path: str, prefix: str, secure: bool
) -> None:
    cookie, resp = SessionCookie(always_secure=production), falcon.asgi.Response()
    req = request(scheme, root_path)
    assert cookie.name(req) == prefix + SESSION_COOKIE
    cookie.set(req, resp, "abc", 60)
    cookie.delete(req, resp)
    headers = [value for name, value in resp._wsgi_headers() if name.lower() == "set-cookie"]
    expected = {"HttpOnly", f"Path={root_path or '/'}", "SameSite=Lax"}
    if secure:
        expected.add("Secure")
    found = {header.split("; ")[0]: set(header.split("; ")[1:]) for header in headers}
    assert found == {
        f"{prefix}{SESSION_COOKIE}=abc": expected | {"Max-Age=60"},
        f"{prefix}{SESSION_COOKIE}=": expected | {"Max-Age=0"},
    }


def test_every_cookie_of_the_name_is_read() -> None:
    cookie = SessionCookie(always_secure=False)
    req = request(cookie=f"session=x; {SESSION_COOKIE}=a; other-session=b; {SESSION_COOKIE}=c")
    assert cookie.values(req) == ["a", "c"]
    assert cookie.values(request(cookie=f"{SESSION_COOKIE}=")) == []
    assert cookie.values(request()) == []


def test_a_cookie_without_the_prefix_does_not_count_where_it_is_secure() -> None:
    cookie = SessionCookie(always_secure=True)
    assert cookie.values(request(cookie=f"{SESSION_COOKIE}=a; __Secure-{SESSION_COOKIE}=b")) == []
    assert cookie.values(request(cookie=f"__Host-{SESSION_COOKIE}=a")) == ["a"]


def test_the_number_of_cookies_is_bounded() -> None:
    many = "; ".join(f"{SESSION_COOKIE}={number}" for number in range(1, 100))
    assert len(SessionCookie(always_secure=False).values(request(cookie=many))) == MAX_COOKIES
