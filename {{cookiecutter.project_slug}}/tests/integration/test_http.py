"""The HTTP resources of the application, called inside the test process."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import falcon.testing
import pytest

from {{ cookiecutter.package_name }} import app, auth, headers
from {{ cookiecutter.package_name }}.resources import health

if TYPE_CHECKING:
    from ..conftest import MakeSettings

# The declarations of realtime.js are for editors and compilers only.
WEB_FILES = sorted(
    path.relative_to(app.WEB_FOLDER).as_posix()
    for path in app.WEB_FOLDER.rglob("*")
    if path.is_file() and path.suffix != ".ts"
)
MEDIA_TYPES = {
    "account.js": "text/javascript",
    "chat/account.css": "text/css",
    "chat/composer.js": "text/javascript",
    "chat/connection.js": "text/javascript",
    "chat/conversation.css": "text/css",
    "chat/conversation.js": "text/javascript",
    "chat/drafts.js": "text/javascript",
    "chat/elements.js": "text/javascript",
    "chat/layout.css": "text/css",
    "chat/main.js": "text/javascript",
    "chat/names.js": "text/javascript",
    "chat/people.js": "text/javascript",
    "chat/rooms.js": "text/javascript",
    "chat/roster.js": "text/javascript",
    "chat/session.js": "text/javascript",
    "chat/side.js": "text/javascript",
    "chat/typing.js": "text/javascript",
    "docs.css": "text/css",
    "docs.html": "text/html",
    "docs.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
    "index.html": "text/html",
    "page.js": "text/javascript",
    "realtime.js": "text/javascript",
    "schema.js": "text/javascript",
    "style.css": "text/css",
    "try.js": "text/javascript",
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
        assert 'src="/static/' in attributes
        assert code.strip() == ""
    assert not re.search(r"<style\b|\sstyle=|\son\w+=|javascript:", response.text, re.IGNORECASE)


async def test_everything_the_page_loads_is_served(
    client: falcon.testing.ASGIConductor,
) -> None:
    page = (await client.simulate_get("/")).text
    addresses = set(re.findall(r'\b(?:src|href)="([^"#][^"]*)"', page))
    assert len(addresses) >= 3
    for address in addresses:
        assert (await client.simulate_get(address)).status_code == 200, address


async def test_the_page_contains_the_websocket_path(
    client: falcon.testing.ASGIConductor, websocket_path: str
) -> None:
    page = (await client.simulate_get("/")).text
    assert re.findall(r'data-websocket-path="([^"]*)"', page) == [websocket_path]


@pytest.mark.parametrize("name", WEB_FILES)
async def test_static_files_are_served_with_their_media_types(
    client: falcon.testing.ASGIConductor, name: str
) -> None:
    response = await client.simulate_get(f"/static/{name}")
    assert response.status_code == 200
    assert response.content == (app.WEB_FOLDER / name).read_bytes()
    assert response.headers["content-type"].partition(";")[0] == MEDIA_TYPES[name]


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
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/health", 405),
        ("PUT", "/session", 405),
        ("POST", "/session", 415),
        ("OPTIONS", "/health", 200),
        ("HEAD", "/health", 405),
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


async def test_sign_in_returns_a_token_and_sets_it_as_a_cookie(
    make_settings: MakeSettings, secret: str
) -> None:
    application = app.create_app(make_settings(token_lifetime_seconds=1234))
    async with falcon.testing.ASGIConductor(application) as client:
        response = await client.simulate_post("/session", json={"name": " Zoë 房间 "})
    assert response.status_code == 201
    token = response.json["token"]
    assert response.json == {"name": "Zoë 房间", "token": token}
    assert await auth.authenticate(token, secret) == auth.User("Zoë 房间")
    [cookie] = response.cookies.values()
    assert (cookie.name, cookie.value, cookie.path) == ("session", token, "/")
    assert (cookie.http_only, cookie.same_site, cookie.max_age) == (True, "Lax", 1234)
    assert not cookie.secure


async def test_the_cookie_is_secure_over_https(
    client: falcon.testing.ASGIConductor,
) -> None:
    response = await client.simulate_post("/session", json={"name": "Alice"}, protocol="https")
    assert response.cookies["session"].secure


async def test_a_session_returns_its_user(client: falcon.testing.ASGIConductor) -> None:
    token = await sign_in(client)
    by_cookie = await client.simulate_get("/session", cookies={"session": token})
    by_header = await client.simulate_get("/session", headers={"Authorization": f"Bearer {token}"})
    for response in (by_cookie, by_header):
        assert response.status_code == 200
        assert response.json == {"name": "Alice"}


async def test_a_request_without_a_valid_session_gets_401(
    client: falcon.testing.ASGIConductor, secret: str
) -> None:
    expired = auth.issue_token(auth.User("Alice"), secret, -1)
    for cookies in ({}, {"session": "garbage"}, {"session": expired}):
        response = await client.simulate_get("/session", cookies=cookies)
        assert response.status_code == 401
        assert response.json["title"] == "Not signed in"


async def test_sign_out_deletes_the_cookie(client: falcon.testing.ASGIConductor) -> None:
    token = await sign_in(client)
    response = await client.simulate_delete("/session", cookies={"session": token})
    assert response.status_code == 204
    assert response.content == b""
    cookie = response.cookies["session"]
    assert (cookie.value, cookie.path) == ("", "/")
    assert cookie.expires is not None
    assert cookie.expires <= datetime.now(UTC)


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


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_production_has_no_sign_in_by_name(
    production: falcon.testing.ASGIConductor, method: str, secret: str
) -> None:
    token = auth.issue_token(auth.User("Alice"), secret, 60)
    response = await production.simulate_request(
        method, "/session", json={"name": "Alice"}, cookies={"session": token}
    )
    assert response.status_code == 404
    assert not response.cookies


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
        await client.simulate_get("/session", cookies={"session": token}),
        await client.simulate_delete("/session"),
        *[await client.simulate_get(path) for path in ("/", "/health", "/session", "/nowhere")],
        *[await client.simulate_get(f"/static/{name}") for name in WEB_FILES],
    ]
    for answer in answers:
        assert secret not in f"{answer.headers}{answer.text}"
