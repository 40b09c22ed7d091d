"""Which hosts and origins a request may have."""

from __future__ import annotations

import falcon
import falcon.asgi
import falcon.testing
import pytest

from {{ cookiecutter.package_name }}.hosts import (
    HostsMiddleware,
    host_name,
    is_loopback,
)


def request(host: str, origin: str | None = None, **options: str) -> falcon.asgi.Request:
    scope = falcon.testing.create_scope(**options)  # type: ignore[arg-type]
    scope["headers"] = [(b"host", host.encode())]
    if origin is not None:
        scope["headers"].append((b"origin", origin.encode()))
    return falcon.asgi.Request(scope, None)  # type: ignore[arg-type]


class Handshake:
    """A WebSocket that may be closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


async def accepts_handshake(middleware: HostsMiddleware, req: falcon.asgi.Request) -> bool:
    """Return whether a handshake goes on to the route."""
    handshake = Handshake()
    await middleware.process_request_ws(req, handshake)  # type: ignore[arg-type]
    return not handshake.closed


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Chat.Example.com", "chat.example.com"),
        ("chat.example.com:443", "chat.example.com"),
        ("chat.example.com.", "chat.example.com"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("", ""),
        ("a b", ""),
        ("a/b", ""),
        ("a@b", ""),
        ("a:b", ""),
        ("a,b", ""),
        ("chat.example.com:443:443", ""),
        ("é.example", ""),
    ],
)
def test_the_name_of_a_host_has_no_port(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost", True),
        ("chat.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_loopback_names_are_those_of_this_machine(name: str, loopback: bool) -> None:
    assert is_loopback(name) is loopback


@pytest.mark.parametrize(
    ("hosts", "development", "host", "known"),
    [
        ([], True, "127.0.0.1:8000", True),
        ([], True, "localhost:8000", True),
        ([], True, "evil.example", False),
        (["dev.example"], True, "dev.example:8000", True),
        (["dev.example"], True, "localhost", True),
        ([], False, "anything.example", True),
        ([], False, "", False),
        (["chat.example.com"], False, "chat.example.com", True),
        (["chat.example.com"], False, "CHAT.example.com:443", True),
        (["chat.example.com"], False, "localhost", False),
        (["chat.example.com"], False, "evil.example", False),
        (["chat.example.com"], False, "chat.example.com.evil.example", False),
        (["chat.example.com"], False, "evil.example/chat.example.com", False),
        (["*"], False, "anything.example", True),
        (["*"], False, "", False),
    ],
)
async def test_a_request_for_another_host_is_refused(
    hosts: list[str], development: bool, host: str, known: bool
) -> None:
    middleware = HostsMiddleware(hosts, [], development=development)
    for path in ("/health", "/ready", "/metrics"):
        await middleware.process_request(request(host, path=path), falcon.asgi.Response())
    for path in ("/", "/session", "/health/x"):
        req = request(host, path=path)
        assert await accepts_handshake(middleware, req) is known
        if known:
            await middleware.process_request(req, falcon.asgi.Response())
            continue
        with pytest.raises(falcon.HTTPBadRequest):
            await middleware.process_request(req, falcon.asgi.Response())


@pytest.mark.parametrize(
    ("method", "scheme", "origin", "allowed"),
    [
        ("POST", "https", "https://chat.example.com", True),
        ("POST", "https", "https://chat.example.com:443", True),
        ("POST", "https", "https://admin.example", True),
        ("GET", "https", "https://evil.example", True),
        ("POST", "https", "https://evil.example", False),
        ("DELETE", "https", "https://evil.example", False),
        ("POST", "https", "http://chat.example.com", False),
        ("POST", "http", "https://chat.example.com", False),
        ("POST", "https", "http://admin.example", False),
        ("POST", "https", "null", False),
        ("POST", "https", "", False),
    ],
)
async def test_a_page_of_another_origin_may_not_write(
    method: str, scheme: str, origin: str, allowed: bool
) -> None:
    middleware = HostsMiddleware([], ["https://admin.example"], development=False)
    req = request("chat.example.com", origin, method=method, scheme=scheme)
    if allowed:
        await middleware.process_request(req, falcon.asgi.Response())
        return
    with pytest.raises(falcon.HTTPForbidden):
        await middleware.process_request(req, falcon.asgi.Response())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://dev.example", True),
        ("https://tool.example", True),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
async def test_in_development_a_foreign_page_may_not_even_read(origin: str, allowed: bool) -> None:
    middleware = HostsMiddleware(["dev.example"], ["https://tool.example"], development=True)
    req = request("127.0.0.1:8000", origin)
    assert await accepts_handshake(middleware, req) is allowed
    if allowed:
        await middleware.process_request(req, falcon.asgi.Response())
        return
    with pytest.raises(falcon.HTTPForbidden):
        await middleware.process_request(req, falcon.asgi.Response())
