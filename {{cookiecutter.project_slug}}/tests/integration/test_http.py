"""The HTTP resources of the application, called inside the test process."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import falcon.testing
import pytest

from falcon_pachinko.backends.memory_restrictions import MemoryRestrictions
from falcon_pachinko.errors import TooManyRestrictions

from {{ cookiecutter.package_name }} import app, headers, tokens
from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE
from {{ cookiecutter.package_name }}.resources import health
from {{ cookiecutter.package_name }}.tokens import Tokens
from {{ cookiecutter.package_name }}.users import User

from ..conftest import token_of

if TYPE_CHECKING:
    from ..conftest import HeadersOf, MakeSettings

# The declarations of realtime.js are for editors and compilers only.
WEB_FILES = sorted(
    path.relative_to(app.WEB_FOLDER).as_posix()
    for path in app.WEB_FOLDER.rglob("*")
    if path.is_file() and path.suffix != ".ts"
)
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
EXPECTED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


@pytest.fixture
async def client(make_settings: MakeSettings) -> AsyncIterator[falcon.testing.ASGIConductor]:
    """The application with the settings for tests."""
    async with falcon.testing.ASGIConductor(app.create_app(make_settings())) as conductor:
        yield conductor


@pytest.fixture
async def production(make_settings: MakeSettings) -> AsyncIterator[falcon.testing.ASGIConductor]:
    """The application with the settings for production."""
    application = app.create_app(make_settings(environment="production"))
    async with falcon.testing.ASGIConductor(application) as conductor:
        yield conductor


async def sign_in(client: falcon.testing.ASGIConductor) -> str:
    """Sign in as Alice and return the token."""
    response = await client.simulate_post("/session", json={"name": "Alice"})
    assert response.status_code == 201
    token: str = response.json["token"]
    return token


async def test_health_is_ok(client: falcon.testing.ASGIConductor) -> None:
    response = await client.simulate_get("/health")
    assert response.status_code == 200
    assert response.json == {"status": "ok"}


async def test_production_serves_the_pages_and_health(
    production: falcon.testing.ASGIConductor,
) -> None:
    for path in ("/", "/docs", "/asyncapi.json", "/health", "/static/chat/main.js"):
        assert (await production.simulate_get(path)).status_code == 200


# --- the page


async def test_the_page_has_no_inline_code(
    client: falcon.testing.ASGIConductor,
) -> None:
    response = await client.simulate_get("/")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    scripts = re.findall(r"<script\b([^>]*)>(.*?)</script>", response.text, re.DOTALL)
    assert scripts
    for attributes, code in scripts:
        assert 'src="static/' in attributes
        assert code.strip() == ""
    assert not re.search(r"<style\b|\sstyle=|\son\w+=|javascript:", response.text, re.IGNORECASE)


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_everything_a_page_loads_is_served(
    client: falcon.testing.ASGIConductor, path: str
) -> None:
    page = (await client.simulate_get(path)).text
    addresses = set(re.findall(r'\b(?:src|href)="([^"#][^"]*)"', page))
    assert len(addresses) >= 3
    for address in addresses:
        # A proxy may have put the service below a path: addresses are relative.
        assert not address.startswith("/"), address
        response = await client.simulate_get(urljoin(path, address))
        assert response.status_code == 200, address


async def test_the_page_contains_the_websocket_path(
    client: falcon.testing.ASGIConductor, websocket_path: str
) -> None:
    page = (await client.simulate_get("/")).text
    assert re.findall(r'data-websocket-path="([^"]*)"', page) == [websocket_path]


@pytest.mark.slow
@pytest.mark.parametrize("name", WEB_FILES)
async def test_static_files_are_served_with_their_media_types(
    client: falcon.testing.ASGIConductor, name: str
) -> None:
    response = await client.simulate_get(f"/static/{name}")
    assert response.status_code == 200
    assert response.content == (app.WEB_FOLDER / name).read_bytes()
    assert response.headers["content-type"].partition(";")[0] == MEDIA_TYPES[Path(name).suffix]


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/", "/static"],
)
async def test_files_outside_the_web_folder_are_not_served(
    client: falcon.testing.ASGIConductor, path: str
) -> None:
    assert (await client.simulate_get(path)).status_code == 404


# --- headers


@pytest.mark.parametrize("path", ["/", "/health", "/session", "/static/chat/main.js", "/nowhere"])
async def test_every_response_has_the_security_headers(
    client: falcon.testing.ASGIConductor, path: str
) -> None:
    assert headers.CONTENT_SECURITY_POLICY == EXPECTED_POLICY
    response = await client.simulate_get(path)
    assert response.headers["content-security-policy"] == EXPECTED_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    denied = response.headers["permissions-policy"].split(", ")
    assert {"camera=()", "microphone=()", "geolocation=()", "display-capture=()"} <= set(denied)
    assert all(re.fullmatch(r"[a-z-]+=\(\)", feature) for feature in denied)
    assert "strict-transport-security" not in response.headers
    expected = "no-store" if path == "/session" else "no-cache"
    assert response.headers["cache-control"] == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/health", 405),
        ("PUT", "/session", 405),
        ("POST", "/session", 415),
        ("OPTIONS", "/health", 200),
    ],
)
async def test_every_refusal_has_the_security_headers(
    client: falcon.testing.ASGIConductor, method: str, path: str, status: int
) -> None:
    response = await client.simulate_request(method, path, body="x")
    assert response.status_code == status
    for name, value in headers.SECURITY_HEADERS.items():
        assert response.headers[name] == value


async def test_an_error_of_a_resource_has_the_security_headers(
    client: falcon.testing.ASGIConductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(health.HealthResource, "on_get", fail)
    application = client.app
    application.add_route("/failing", health.HealthResource())
    response = await client.simulate_get("/failing")
    assert response.status_code == 500
    for name, value in headers.SECURITY_HEADERS.items():
        assert response.headers[name] == value


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/chat/main.js"])
async def test_production_demands_https_of_a_browser_that_has_used_it(
    production: falcon.testing.ASGIConductor, path: str
) -> None:
    response = await production.simulate_get(path, protocol="https")
    assert response.headers["strict-transport-security"] == "max-age=31536000"
    response = await production.simulate_get(path, protocol="http")
    assert "strict-transport-security" not in response.headers


async def test_development_does_not_demand_https(client: falcon.testing.ASGIConductor) -> None:
    response = await client.simulate_get("/", protocol="https")
    assert "strict-transport-security" not in response.headers


# --- /session


@pytest.mark.parametrize("path", ["/", "/docs", "/asyncapi.json", "/health", "/ready", "/session"])
async def test_head_is_get_without_a_body(client: falcon.testing.ASGIConductor, path: str) -> None:
    get = await client.simulate_get(path)
    head = await client.simulate_head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers == get.headers


async def test_head_of_a_static_file_has_its_size(client: falcon.testing.ASGIConductor) -> None:
    get = await client.simulate_get("/static/chat/main.js")
    head = await client.simulate_head("/static/chat/main.js")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


async def test_sign_in_by_name_returns_a_token_and_no_cookie(make_settings: MakeSettings) -> None:
    settings = make_settings(token_lifetime_seconds=1234)
    async with falcon.testing.ASGIConductor(app.create_app(settings)) as client:
        response = await client.simulate_post("/session", json={"name": " Zoë 房间 "})
        assert response.status_code == 201
        token, end = response.json["token"], response.json["expiresAt"]
        user = {"id": "Zoë 房间", "name": "Zoë 房间", "roles": []}
        assert response.json == {"user": user, "token": token, "expiresAt": end}
        assert end == pytest.approx(time.time() + 1234, abs=10)
        session = Tokens.of(settings).read(token)
        assert session is not None
        assert (session.user.id, session.user.expires_at) == ("Zoë 房间", end)
        assert not response.cookies


async def test_a_session_returns_its_user(client: falcon.testing.ASGIConductor) -> None:
    token = token_of("Alice", "staff")
    by_cookie = await client.simulate_get("/session", cookies={SESSION_COOKIE: token})
    by_header = await client.simulate_get("/session", headers={"Authorization": f"Bearer {token}"})
    for response in (by_cookie, by_header):
        assert response.status_code == 200
        assert response.json["user"] == {"id": "Alice", "name": "Alice", "roles": ["staff"]}
        assert response.json["expiresAt"] > time.time()
        assert response.json["signIn"] == "name"
        assert token not in response.text


async def test_a_request_without_a_valid_session_has_no_user(
    client: falcon.testing.ASGIConductor,
) -> None:
    for value in ("", "garbage", token_of("Alice", seconds=-1), token_of("A", secret="x" * 40)):
        response = await client.simulate_get("/session", cookies={SESSION_COOKIE: value})
        assert response.status_code == 200
        assert response.json == {"user": None, "expiresAt": None, "signIn": "name"}


async def test_the_cookie_is_refreshed_without_a_token_in_the_body(
    client: falcon.testing.ASGIConductor, make_settings: MakeSettings
) -> None:
    token = token_of("Alice", seconds=60)
    response = await client.simulate_post(
        "/session/refresh", json={}, cookies={SESSION_COOKIE: token}
    )
    assert response.status_code == 200
    assert response.json.keys() == {"ticket", "expiresAt"}
    cookie = response.cookies[SESSION_COOKIE]
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")
    assert cookie.max_age == pytest.approx(8 * 3600, abs=10)
    tokens = Tokens.of(make_settings())
    old, new = tokens.read(token), tokens.read(cookie.value)
    assert old is not None
    assert new is not None
    assert new.user.session_id == old.user.session_id
    assert new.user.expires_at == response.json["expiresAt"]


async def test_a_bearer_token_is_refreshed_in_the_body(
    client: falcon.testing.ASGIConductor, headers_of: HeadersOf
) -> None:
    response = await client.simulate_post("/session/refresh", json={}, headers=headers_of("Alice"))
    assert response.status_code == 200
    assert response.json.keys() == {"ticket", "expiresAt", "token"}
    assert not response.cookies
    bearer = {"Authorization": f"Bearer {response.json['token']}"}
    again = await client.simulate_get("/session", headers=bearer)
    assert again.json["user"]["id"] == "Alice"


@pytest.mark.parametrize("path", ["/session/refresh", "/session/ticket"])
async def test_a_request_without_a_session_gets_401(
    client: falcon.testing.ASGIConductor, path: str
) -> None:
    for value in ("garbage", token_of("Alice", seconds=-1)):
        response = await client.simulate_post(path, json={}, cookies={SESSION_COOKIE: value})
        assert response.status_code == 401
        assert response.json["title"] == "Not signed in"
        assert not response.cookies


async def test_a_session_that_has_reached_its_end_is_not_refreshed(
    make_settings: MakeSettings, headers_of: HeadersOf
) -> None:
    application = app.create_app(make_settings(session_lifetime_seconds=1))
    old = tokens.Session(User("u1", "Alice", session_id="s1", expires_at=time.time() + 60), 0, 0)
    made = Tokens.of(make_settings())
    token = made._encode(old, made.audience)
    async with falcon.testing.ASGIConductor(application) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await client.simulate_get("/session", headers=bearer)).json["user"] is not None
        response = await client.simulate_post("/session/refresh", json={}, headers=bearer)
        assert response.status_code == 401


async def test_a_ticket_is_issued_to_a_session(
    client: falcon.testing.ASGIConductor, headers_of: HeadersOf
) -> None:
    response = await client.simulate_post("/session/ticket", json={}, headers=headers_of("Alice"))
    assert response.status_code == 201
    assert response.json.keys() == {"ticket", "expiresInSeconds"}
    assert response.json["expiresInSeconds"] == 60
    bearer = {"Authorization": f"Bearer {response.json['ticket']}"}
    as_bearer = await client.simulate_get("/session", headers=bearer)
    assert as_bearer.json["user"]["id"] == "Alice"
    again = await client.simulate_get("/session", headers=bearer)
    assert again.json["user"] is None


@pytest.mark.parametrize("protocol", ["http", "https"])
async def test_sign_out_deletes_the_cookie_and_ends_the_session(
    client: falcon.testing.ASGIConductor, protocol: str
) -> None:
    token, other = token_of("Alice"), token_of("Alice")
    name = SESSION_COOKIE if protocol == "http" else f"__Host-{SESSION_COOKIE}"
    response = await client.simulate_delete("/session", cookies={name: token}, protocol=protocol)
    assert response.status_code == 200
    assert response.json == {"logoutUrl": None}
    cookie = response.headers["set-cookie"]
    assert cookie.startswith(f"{name}=;")
    assert "Max-Age=0" in cookie
    assert ("Secure" in cookie) == (protocol == "https")
    for value, signed_in in ((token, False), (other, True)):
        response = await client.simulate_get("/session", cookies={SESSION_COOKIE: value})
        assert (response.json["user"] is not None) is signed_in


async def test_sign_out_everywhere_ends_all_sessions_of_the_user_until_now(
    client: falcon.testing.ASGIConductor, headers_of: HeadersOf
) -> None:
    sent = [headers_of("Alice"), headers_of("Alice"), headers_of("Bob")]
    response = await client.simulate_delete(
        "/session", params={"everywhere": "true"}, headers=sent[0]
    )
    assert response.status_code == 200
    users = [(await client.simulate_get("/session", headers=each)).json["user"] for each in sent]
    assert [user and user["id"] for user in users] == [None, None, "Bob"]
    later = await client.simulate_get("/session", headers=headers_of("Alice"))
    assert later.json["user"]["id"] == "Alice"


async def test_sign_out_without_a_place_for_it_is_503_and_keeps_the_cookie(
    client: falcon.testing.ASGIConductor,
    headers_of: HeadersOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def restrict(self: object, change: object) -> None:
        raise TooManyRestrictions(80_000)

    monkeypatch.setattr(MemoryRestrictions, "restrict", restrict)
    for params in ({}, {"everywhere": "true"}):
        response = await client.simulate_delete(
            "/session", params=params, headers=headers_of("Alice")
        )
        assert response.status_code == 503
        assert response.headers["retry-after"] == "60"
        assert response.json["title"] == "Not signed out"
        assert "set-cookie" not in response.headers


async def test_sign_out_works_for_nobody(client: falcon.testing.ASGIConductor) -> None:
    for cookies in ({}, {SESSION_COOKIE: "garbage"}):
        response = await client.simulate_delete("/session", cookies=cookies)
        assert response.status_code == 200
        assert response.headers["set-cookie"].startswith(f"{SESSION_COOKIE}=;")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/session"),
        ("DELETE", "/session"),
        ("POST", "/session/refresh"),
        ("POST", "/session/ticket"),
    ],
)
async def test_a_page_of_another_origin_changes_nothing(
    client: falcon.testing.ASGIConductor, method: str, path: str
) -> None:
    token = token_of("Alice")
    for origin in ("https://evil.example", "null", "https://falconframework.org:444"):
        response = await client.simulate_request(
            method,
            path,
            json={"name": "Mallory"},
            cookies={SESSION_COOKIE: token},
            headers={"Origin": origin},
        )
        assert response.status_code == 403
        assert not response.cookies
    session = await client.simulate_get("/session", cookies={SESSION_COOKIE: token})
    assert session.json["user"]["id"] == "Alice"


@pytest.mark.parametrize("path", ["/session", "/session/refresh", "/session/ticket"])
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", ""])
async def test_a_form_of_another_page_changes_nothing(
    client: falcon.testing.ASGIConductor, path: str, content_type: str
) -> None:
    response = await client.simulate_post(
        path,
        body=b'{"name": "Mallory"}',
        headers={"Content-Type": content_type},
        cookies={SESSION_COOKIE: token_of("Alice")},
    )
    assert response.status_code == 415
    assert not response.cookies


async def test_no_response_of_a_session_is_stored(
    client: falcon.testing.ASGIConductor, headers_of: HeadersOf
) -> None:
    for given in ({}, headers_of("Alice")):
        for method, path, media in (
            ("GET", "/session", None),
            ("HEAD", "/session", None),
            ("PUT", "/session", None),
            ("POST", "/session", {"name": "Alice"}),
            ("POST", "/session", {}),
            ("POST", "/session", None),
            ("POST", "/session/refresh", {}),
            ("POST", "/session/ticket", {}),
            ("GET", "/session/nowhere", None),
            ("GET", "/login", None),
            ("DELETE", "/session", None),
        ):
            response = await client.simulate_request(method, path, json=media, headers=given)
            assert response.headers["cache-control"] == "no-store", (method, path)


async def test_the_host_of_a_request_must_be_known(make_settings: MakeSettings) -> None:
    for hosts, status in ((["falconframework.org"], 200), (["chat.example.com"], 400)):
        settings = make_settings(environment="production", allowed_hosts=hosts)
        async with falcon.testing.ASGIConductor(app.create_app(settings)) as client:
            sent = {"X-Forwarded-Host": "chat.example.com", "Forwarded": "host=chat.example.com"}
            for path in ("/", "/session", "/static/chat/main.js"):
                response = await client.simulate_get(path, headers=sent)
                assert response.status_code == status, (hosts, path)
            for path in ("/health", "/ready"):
                assert (await client.simulate_get(path, headers=sent)).status_code == 200


@pytest.mark.parametrize(
    "media", [{"name": ""}, {"name": "x" * 41}, {"name": "a\nb"}, {"name": 7}, {}, [], "Alice"]
)
async def test_an_invalid_name_is_refused_with_the_reason(
    client: falcon.testing.ASGIConductor, media: object
) -> None:
    response = await client.simulate_post("/session", json=media)
    assert response.status_code == 422
    assert response.json.keys() == {"title", "description"}
    assert not response.cookies


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{", "application/json", 400),
        ("", "application/json", 400),
        ("\udcff", "application/json", 400),
        ("name=Alice", "text/plain", 415),
        ("name=Alice", "application/x-www-form-urlencoded", 415),
        ('{"name": "Alice"}', "", 415),
        ("[" * 100_000, "application/json", 400),
    ],
)
async def test_a_body_that_is_not_json_is_refused(
    client: falcon.testing.ASGIConductor, body: str, content_type: str, status: int
) -> None:
    response = await client.simulate_post(
        "/session",
        body=body.encode("utf-8", "surrogateescape"),
        headers={"Content-Type": content_type},
    )
    assert response.status_code == status
    assert response.json["title"]
    assert not response.cookies


async def test_production_has_no_sign_in_by_name(
    production: falcon.testing.ASGIConductor,
) -> None:
    name = f"__Host-{SESSION_COOKIE}"
    cookies = {name: token_of("Alice")}
    response = await production.simulate_post("/session", json={"name": "Alice"}, cookies=cookies)
    assert response.status_code == 405
    assert not response.cookies
    session = await production.simulate_get("/session", cookies=cookies)
    assert session.json == {"user": None, "expiresAt": None, "signIn": "none"}
    cookies = {name: token_of("Alice", environment="production")}
    session = await production.simulate_get("/session", cookies=cookies)
    assert session.json["user"]["id"] == "Alice"


# --- errors


@pytest.mark.parametrize("path", ["/nowhere", "/static/nowhere.js", "/health/", "/%00"])
async def test_a_missing_page_is_a_short_json_error(
    client: falcon.testing.ASGIConductor, path: str
) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    response = await client.simulate_get(path, headers={"Accept": accept})
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("application/json")
    assert response.json == {"title": "404 Not Found"}


async def test_an_unsupported_method_gets_405(
    client: falcon.testing.ASGIConductor,
) -> None:
    response = await client.simulate_post("/health")
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]


async def test_no_response_contains_the_secret(
    client: falcon.testing.ASGIConductor, secret: str
) -> None:
    token = await sign_in(client)
    answers = [
        await client.simulate_post("/session", json={"name": "Alice"}),
        await client.simulate_get("/session", cookies={SESSION_COOKIE: token}),
        await client.simulate_delete("/session"),
        *[await client.simulate_get(path) for path in ("/", "/health", "/session", "/nowhere")],
        *[await client.simulate_get(f"/static/{name}") for name in WEB_FILES],
    ]
    for answer in answers:
        assert secret not in f"{answer.headers}{answer.text}"
