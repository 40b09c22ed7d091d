"""The client and the scheme of a request behind trusted proxies."""

from typing import Any

import pytest

from falcon_pachinko import ConfigurationError
from falcon_pachinko.server.forwarded import TrustedProxies

LOCAL = ("127.0.0.1", "::1", "unix:")


def resolve(
    *headers: tuple[str, str],
    proxies: tuple[str, ...] = LOCAL,
    peer: Any = ("127.0.0.1", 5000),
    server: Any = ("127.0.0.1", 8000),
    kind: str = "http",
) -> dict[str, Any]:
    """Return the scope of a request with these headers."""
    scope = {
        "type": kind,
        "scheme": {"http": "http", "websocket": "ws"}[kind],
        "client": peer,
        "server": server,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    TrustedProxies(proxies).apply(scope)
    return scope


def client_of(*values: str, **options: Any) -> Any:
    return resolve(*(("X-Forwarded-For", value) for value in values), **options)["client"]


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["203.0.113.7"], ("203.0.113.7", 0)),
        (["203.0.113.7:4711"], ("203.0.113.7", 4711)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["[2001:db8::1]"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
        (["::ffff:203.0.113.7"], ("203.0.113.7", 0)),
        (["  203.0.113.7  "], ("203.0.113.7", 0)),
    ],
)
def test_an_address_may_have_a_port(values: list[str], client: tuple[str, int]) -> None:
    assert client_of(*values) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, 127.0.0.1"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, unix:"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, ::1, 127.0.0.1:80"], "203.0.113.7"),
        (["127.0.0.1, ::1"], "127.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_a_proxy(
    values: list[str], client: str
) -> None:
    assert client_of(*values)[0] == client


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", ",", "unknown", "_hidden", "203.0.113.7, ", "203.0.113.7, x", "[::1", "[::1]x"),
        *("1.2.3", "é", "203.0.113.7:x", "203.0.113.7:99999999", "[[::1]]:1", "unix:x"),
    ],
)
def test_a_header_that_ends_in_no_address_is_ignored(value: str) -> None:
    assert client_of(value) == ("127.0.0.1", 5000)


def test_what_is_left_of_an_entry_that_is_no_address_is_ignored() -> None:
    assert client_of("203.0.113.7, unknown, 127.0.0.1") == ("127.0.0.1", 0)


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)])
def test_the_header_of_a_trusted_peer_is_used(peer: tuple[str, int]) -> None:
    assert client_of("203.0.113.7", peer=peer)[0] == "203.0.113.7"


@pytest.mark.parametrize("peer", [("192.0.2.1", 1), ("127.0.0.2", 1), ("::2", 1), ("x", 1)])
def test_the_headers_of_any_other_peer_are_ignored(peer: tuple[str, int]) -> None:
    scope = resolve(("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"), peer=peer)
    assert (scope["client"], scope["scheme"]) == (peer, "http")


def test_a_peer_is_looked_up_by_its_address() -> None:
    proxies = TrustedProxies(LOCAL)
    assert "127.0.0.1" in proxies
    assert "::ffff:127.0.0.1" in proxies
    assert "192.0.2.1" not in proxies
    assert "unix:" not in proxies
    assert None not in proxies
    assert "192.0.2.1" in TrustedProxies(["*"])


def test_a_network_is_trusted() -> None:
    options: dict[str, Any] = {"proxies": ("10.0.0.0/8", "fd00::/8")}
    assert client_of("203.0.113.7, 10.9.9.9", peer=("10.1.2.3", 1), **options)[0] == "203.0.113.7"
    assert client_of("203.0.113.7", peer=("fd12::1", 1), **options)[0] == "203.0.113.7"
    assert client_of("203.0.113.7", peer=("11.0.0.1", 1), **options)[0] == "11.0.0.1"


# What uvicorn, hypercorn, granian and daphne state for a Unix socket.
UNIX_SCOPES = [
    (None, ("/run/chat.sock", None)),
    (None, None),
    (("", "0"), ("/run/chat.sock", "0")),
]


@pytest.mark.parametrize(("peer", "server"), UNIX_SCOPES)
def test_a_peer_over_a_unix_socket_is_trusted_if_it_is_listed(peer: Any, server: Any) -> None:
    assert client_of("203.0.113.7", peer=peer, server=server) == ("203.0.113.7", 0)
    options: dict[str, Any] = {"proxies": ("127.0.0.1",), "peer": peer, "server": server}
    assert client_of("203.0.113.7", **options) == peer


def test_a_tcp_peer_without_an_address_is_not_a_unix_socket() -> None:
    assert client_of("203.0.113.7", peer=None, server=("127.0.0.1", 8000)) is None


def test_a_scope_of_falcon_testing_has_no_peer() -> None:
    """It has iterators in place of pairs."""
    server = iter(("falconframework.org", 80))
    assert client_of("203.0.113.7", peer=None, server=server) is None


def test_with_all_peers_trusted_a_client_cannot_forge_its_address() -> None:
    options: dict[str, Any] = {"proxies": ("*",), "peer": ("192.0.2.1", 1)}
    assert client_of("198.51.100.1, 203.0.113.7", **options)[0] == "203.0.113.7"


@pytest.mark.parametrize(
    ("value", "kind", "scheme"),
    [
        ("https", "http", "https"),
        ("HTTPS", "http", "https"),
        ("wss", "http", "https"),
        ("http", "http", "http"),
        ("https", "websocket", "wss"),
        ("wss", "websocket", "wss"),
        ("http", "websocket", "ws"),
        ("http, https", "http", "https"),
        ("https, http", "http", "http"),
        ("", "http", "http"),
        ("ftp", "http", "http"),
        ("https;x", "websocket", "ws"),
    ],
)
def test_the_scheme_is_the_last_of_the_header(value: str, kind: str, scheme: str) -> None:
    assert resolve(("X-Forwarded-Proto", value), kind=kind)["scheme"] == scheme


def test_the_result_is_the_same_when_it_is_applied_twice() -> None:
    scope = resolve(("X-Forwarded-For", "198.51.100.1, 203.0.113.7"))
    TrustedProxies(LOCAL).apply(scope)
    assert scope["client"] == ("203.0.113.7", 0)


@pytest.mark.parametrize("entry", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "1.2.3.4:80", ""])
def test_an_entry_that_is_not_an_address_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write an address or a network like 10\.0\.0\.0"):
        TrustedProxies(["127.0.0.1", entry])


def test_of_a_long_header_the_last_entries_are_read() -> None:
    proxies = ["127.0.0.1"] * 31
    assert client_of(",".join(["203.0.113.7", *proxies]))[0] == "203.0.113.7"
    assert client_of(",".join(["203.0.113.7", *proxies, *proxies]))[0] == "127.0.0.1"
