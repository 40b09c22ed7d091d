"""Sign-in at an identity provider: the service and the provider each on a port of their own."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.testing import Closed, Served

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from ..provider import CLIENT_ID, TestProvider, running_provider

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import ServeApp

    from ..conftest import MakeSettings

pytestmark = pytest.mark.slow

WAIT_SECONDS = 20.0

OpenBrowser = Callable[[], httpx.AsyncClient]


@pytest.fixture
def provider() -> Iterator[TestProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def serve_chat(
    serve_app: ServeApp, make_settings: MakeSettings, provider: TestProvider
) -> Callable[..., Awaitable[Served]]:
    """Serve the chat with this provider, and with some settings."""

    def serve_chat(**given: Any) -> Awaitable[Served]:
        settings = make_settings(**provider.settings() | given)
        return serve_app(app.create_app(settings), **WEBSOCKET_OPTIONS)

    return serve_chat


@pytest.fixture
async def chat(serve_chat: Callable[..., Awaitable[Served]]) -> Served:
    return await serve_chat()


@pytest.fixture
async def browser(chat: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with cookies, which does not follow redirects by itself."""
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, timeout=WAIT_SECONDS
    ) as browser:
        yield browser


async def agree(browser: httpx.AsyncClient, target: str = "#general") -> str:
    """Begin a sign-in and agree at the provider; return the address that it leads back to."""
    begun = await browser.get("/login", params={"next": target})
    assert begun.status_code == 303, begun.text
    assert begun.headers["Cache-Control"] == "no-store"
    agreed = await browser.get(begun.headers["Location"])
    assert agreed.status_code == 303, agreed.text
    return agreed.headers["Location"]


async def user_of(browser: httpx.AsyncClient) -> dict[str, Any] | None:
    user: dict[str, Any] | None = (await browser.get("/session")).json()["user"]
    return user


async def check_refused(browser: httpx.AsyncClient, callback: str, status: int) -> str:
    """Assert that a sign-in ends in a page of the service without a session; return its text."""
    response = await browser.get(callback)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("text/html")
    assert response.headers["Cache-Control"] == "no-store"
    assert "You are not signed in" in response.text
    assert "Traceback" not in response.text
    assert await user_of(browser) is None
    return response.text


def changed(url: str, **parameters: str) -> str:
    """Return a URL with other query parameters."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | parameters
    return parts._replace(query=urlencode(query)).geturl()


async def test_a_user_signs_in_chats_and_signs_out(
    chat: Served, browser: httpx.AsyncClient, provider: TestProvider, websocket_path: str
) -> None:
    assert (await browser.get("/session")).json()["signIn"] == "provider"
    done = await browser.get(await agree(browser, "#général"))
    assert done.status_code == 303
    assert done.headers["Location"] == "/#g%C3%A9n%C3%A9ral"
    assert await user_of(browser) == {"id": "auth0|5f7c", "name": "Alice", "roles": ["staff"]}
    assert list(browser.cookies.keys()) == [SESSION_COOKIE], "the cookie of the sign-in is deleted"

    cookie = {SESSION_COOKIE: browser.cookies[SESSION_COOKIE]}
    async with chat.connect(f"{websocket_path}/general", cookies=cookie) as client:
        await client.receive_until(ServerPosition)
        signed_out = await browser.request("DELETE", "/session")
        with pytest.raises(Closed) as closed:
            await client.receive_until(ServerPosition)
        assert closed.value.code == 4401
    url = urlsplit(signed_out.json()["logoutUrl"])
    assert url._replace(query="").geturl() == f"{provider.issuer}/logout"
    assert parse_qs(url.query) == {
        "client_id": [CLIENT_ID],
        "post_logout_redirect_uri": [chat.url("/")],
    }
    assert await user_of(browser) is None
    assert (await browser.request("DELETE", "/session")).json() == {"logoutUrl": None}


async def test_a_form_signs_out_here_and_at_the_provider(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    await browser.get(await agree(browser))
    response = await browser.post("/logout")
    assert response.status_code == 303
    assert response.headers["Location"].startswith(f"{provider.issuer}/logout?")
    assert await user_of(browser) is None
    assert (await browser.post("/logout")).headers["Location"] == "/"


async def test_two_tabs_sign_in_at_once(browser: httpx.AsyncClient) -> None:
    first, second = await agree(browser, "#one"), await agree(browser, "#two")
    assert (await browser.get(second)).headers["Location"] == "/#two"
    assert (await browser.get(first)).headers["Location"] == "/#one"


async def test_a_browser_keeps_the_newest_sign_ins_only(browser: httpx.AsyncClient) -> None:
    begun = [await agree(browser) for _ in range(8)]
    assert len(browser.cookies) == 5
    assert (await browser.get(begun[-1])).status_code == 303
    await browser.request("DELETE", "/session")
    await check_refused(browser, begun[0], 400)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("", "/"),
        ("#room", "/#room"),
        ("#private-a~1.b", "/#private-a~1.b"),
        ("/docs?a=b#c", "/docs?a=b#c"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\/evil.example", "/"),
        ("https://evil.example", "/"),
        ("evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a/../../evil", "/"),
        ("/%2e%2e/evil", "/"),
        ("/\t/evil.example", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
        ("#" + "x" * 2_000, "/"),
    ],
)
async def test_a_sign_in_returns_to_this_service_only(
    browser: httpx.AsyncClient, target: str, location: str
) -> None:
    done = await browser.get(await agree(browser, target))
    assert done.headers["Location"] == location


async def test_a_response_works_once(browser: httpx.AsyncClient, provider: TestProvider) -> None:
    callback = await agree(browser)
    cookies = dict(browser.cookies)
    assert (await browser.get(callback)).status_code == 303
    await browser.request("DELETE", "/session")
    assert "complete already" in await check_refused(browser, callback, 400)
    # A browser that has kept the cookie gets no further: the provider refuses the code.
    browser.cookies.update(cookies)
    await check_refused(browser, callback, 403)
    assert provider.requests["/token"] == 2


async def test_a_response_for_another_browser_is_refused(
    chat: Served, browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    callback = await agree(browser)
    browser.cookies.clear()
    await check_refused(browser, callback, 400)
    assert provider.requests["/token"] == 0, "the code is not used"


@pytest.mark.parametrize("state", ["", "x", "x" * 22, "../../" + "x" * 16])
async def test_another_state_is_refused(
    browser: httpx.AsyncClient, provider: TestProvider, state: str
) -> None:
    await check_refused(browser, changed(await agree(browser), state=state), 400)
    assert provider.requests["/token"] == 0


async def test_the_code_of_another_attempt_is_refused(browser: httpx.AsyncClient) -> None:
    """SECURITY: PKCE: the verifier belongs to the code."""
    first, second = await agree(browser), await agree(browser)
    code = parse_qs(urlsplit(first).query)["code"][0]
    await check_refused(browser, changed(second, code=code), 403)


async def test_a_response_of_another_issuer_is_refused(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    await check_refused(browser, changed(await agree(browser), iss="https://evil.example"), 403)
    missing = changed(await agree(browser)).replace("iss=", "not=")
    await check_refused(browser, missing, 403)
    assert provider.requests["/token"] == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"]},
        {"azp": "another-client"},
        {"exp": 1},
        {"exp": float("nan")},
        {"exp": "never"},
        {"iat": None},
        {"at_hash": "x"},
        {"sub": ""},
        {"sub": "a\u202eb"},
        {"sub": None},
    ],
    ids=repr,
)
async def test_a_wrong_id_token_is_refused(
    browser: httpx.AsyncClient, provider: TestProvider, claims: dict[str, Any]
) -> None:
    provider.id_token = claims
    await check_refused(browser, await agree(browser), 403)


async def test_a_clock_ahead_is_named_in_the_log(
    browser: httpx.AsyncClient, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    now = int(time.time())
    provider.id_token = {"iat": now + 25, "nbf": now + 25, "exp": now + 300}
    assert (await browser.get(await agree(browser))).status_code == 303
    await browser.request("DELETE", "/session")
    provider.id_token = {"iat": now + 65, "exp": now + 300}
    with caplog.at_level(logging.WARNING):
        await check_refused(browser, await agree(browser), 403)
    assert re.search(r"'iat' is 6\d s ahead of this machine's clock", caplog.text)


async def test_a_cancelled_sign_in_is_a_page(
    browser: httpx.AsyncClient, provider: TestProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    provider.answer = "access_denied"
    text = await check_refused(browser, await agree(browser, "#a&b"), 403)
    assert "cancelled" in text
    assert "0800" not in text, "no text of the request is shown"
    assert 'href="/login?next=%23a%26b"' in text
    assert "access_denied" in caplog.text
    assert {each.levelno for each in caplog.records if "refused" in each.message} == {logging.INFO}
    provider.answer = "temporarily_unavailable"
    await check_refused(browser, await agree(browser), 503)


# RFC 9864 renames EdDSA, which is what providers send.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"])
async def test_keys_of_each_algorithm_rotate(
    browser: httpx.AsyncClient, provider: TestProvider, algorithm: str
) -> None:
    assert (await browser.get(await agree(browser))).status_code == 303
    provider.rotate(algorithm, keep=False)
    assert (await browser.get(await agree(browser))).status_code == 303
    assert provider.requests["/keys"] == 2


@pytest.mark.parametrize("fault", ["error", "huge", "text", "stop"])
async def test_an_outage_is_temporary_and_logged_once(
    browser: httpx.AsyncClient,
    provider: TestProvider,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    callback = await agree(browser)
    if fault == "stop":
        provider.stop()
    provider.fault = fault
    response = await browser.get(callback)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "does not respond" in response.text
    assert (await browser.get(callback)).status_code == 400, "the sign-in begins again"
    assert caplog.text.count("is unavailable") == 1
    if fault == "stop":
        provider.start()
    provider.fault = ""
    assert (await browser.get(await agree(browser))).status_code == 303


async def test_a_provider_that_hangs_is_given_up_after_some_seconds(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    provider.fault = "hang"
    began = time.monotonic()
    response = await browser.get("/login")
    assert response.status_code == 503
    assert 4.5 < time.monotonic() - began < 15
    provider.fault = ""


async def test_a_service_starts_and_signs_out_without_the_provider(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    provider.stop()
    assert (await browser.get("/session")).status_code == 200
    assert (await browser.get("/ready")).status_code == 200
    assert (await browser.get("/login")).status_code == 503
    assert (await browser.request("DELETE", "/session")).json() == {"logoutUrl": None}
    provider.start()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
    ids=repr,
)
async def test_metadata_that_is_not_secure_is_not_used(
    browser: httpx.AsyncClient,
    provider: TestProvider,
    caplog: pytest.LogCaptureFixture,
    metadata: dict[str, Any],
) -> None:
    provider.metadata = metadata
    assert (await browser.get("/login")).status_code == 503
    assert "is unavailable" in caplog.text


async def test_the_client_proves_itself_as_the_provider_wants(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert (await browser.get(await agree(browser))).status_code == 303


async def test_a_wrong_client_secret_is_a_page_and_a_log_line(
    serve_chat: Callable[..., Awaitable[Served]], caplog: pytest.LogCaptureFixture
) -> None:
    chat = await serve_chat(oidc_client_secret="another-secret")
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, timeout=WAIT_SECONDS
    ) as browser:
        await check_refused(browser, await agree(browser), 403)
    assert "invalid_client" in caplog.text
    assert "another-secret" not in caplog.text


async def test_name_and_roles_come_from_the_user_info_endpoint_if_the_id_token_has_none(
    browser: httpx.AsyncClient, provider: TestProvider
) -> None:
    provider.hides_user = True
    assert (await browser.get(await agree(browser))).status_code == 303
    assert await user_of(browser) == {"id": "auth0|5f7c", "name": "Alice", "roles": ["staff"]}
    provider.id_token = {"sub": "another"}
    await browser.request("DELETE", "/session")
    await check_refused(browser, await agree(browser), 403)


async def test_a_path_prefix_and_a_public_origin(
    serve_chat: Callable[..., Awaitable[Served]],
) -> None:
    chat = await serve_chat(root_path="/chat")
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, timeout=WAIT_SECONDS
    ) as browser:
        begun = await browser.get("/chat/login", params={"next": "#room"})
        agreed = await browser.get(begun.headers["Location"])
        assert agreed.headers["Location"].startswith(chat.url("/chat/login/callback?"))
        done = await browser.get(agreed.headers["Location"])
        assert done.headers["Location"] == "/chat/#room"
        assert (await browser.get("/chat/session")).json()["user"]["name"] == "Alice"
    origin = "https://chat.example.com"
    chat = await serve_chat(public_origin=origin, allowed_hosts=["chat.example.com"])
    # As behind a proxy, which ends TLS.
    headers = {"X-Forwarded-Proto": "https", "Host": "chat.example.com"}
    async with httpx.AsyncClient(
        base_url=chat.origin, trust_env=False, headers=headers, timeout=WAIT_SECONDS
    ) as browser:
        begun = await browser.get("/login")
    [redirect_uri] = parse_qs(urlsplit(begun.headers["Location"]).query)["redirect_uri"]
    assert redirect_uri == f"{origin}/login/callback"
    cookie = begun.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-{SESSION_COOKIE}-in-")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
