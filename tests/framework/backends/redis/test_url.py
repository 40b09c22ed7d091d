"""Backend URLs: accepted forms, and errors that do not reveal a password."""

import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from falcon_pachinko.backends import backend_from_url, check_backend_url
from falcon_pachinko.backends.redis.client import SingleClient
from falcon_pachinko.backends.redis.cluster import ClusterClient
from falcon_pachinko.backends.redis.url import make_client, parse_address
from falcon_pachinko.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://127.0.0.1", "redis://"),
        ("nonsense", "redis://"),
        ("redis+sentinel://127.0.0.1:1", "/service"),
        ("redis+sentinel:///service", "/service"),
        ("redis://127.0.0.1:1?secret=1", "options"),
        ("redis+cluster://127.0.0.1:1?secret=1", "options"),
        ("redis://:secret#word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret/word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret?word@127.0.0.1:1", "percent-encoding"),
        ("redis://:secret[word@127.0.0.1:1", "percent-encoding"),
        ("redis://:pa@secret/word@127.0.0.1:1", "percent-encoding"),
        ("redis://:pa@secret#word@127.0.0.1:1", "percent-encoding"),
        ("redis://:pa@secret?word@127.0.0.1:1", "percent-encoding"),
        ("redis://:1/secret@127.0.0.1:1", "percent-encoding"),
        ("redis://:pa@127.0.0.1/secret", "percent-encoding"),
        ("redis://:pa@127.0.0.1/1#secret", "percent-encoding"),
        ("redis+cluster://:pa@secret/word@127.0.0.1:1", "percent-encoding"),
        ("redis+sentinel://:pa@secret/word@127.0.0.1:1/service", "percent-encoding"),
        ("unix://:pa@secret/word@/run/redis.sock", "percent-encoding"),
        ("secret", "percent-encoding"),
        ("secret:word@127.0.0.1", "percent-encoding"),
        ("redis+cluster://:secret#word@127.0.0.1:1", "percent-encoding"),
        ("redis+sentinel://:secret/word@127.0.0.1:1/service", "percent-encoding"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(
    url: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        backend_from_url(url)
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        check_backend_url(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "host", "password"),
    [
        ("redis://127.0.0.1:1/", "127.0.0.1", None),
        ("redis://127.0.0.1:1/0/", "127.0.0.1", None),
        ("redis://:a%2Fb%40c%23@127.0.0.1:1/3", "127.0.0.1", "a/b@c#"),
        ("redis://:a@b@127.0.0.1:1", "127.0.0.1", "a@b"),
        ("redis://127.0.0.1:1?password=a%40b", "127.0.0.1", "a@b"),
    ],
)
def test_an_unambiguous_url_names_the_host(url: str, host: str, password: str | None) -> None:
    client = make_client(url, "app", 1.0)
    assert isinstance(client, SingleClient)
    options = client.pool.connection_kwargs
    assert (options["host"], options.get("password")) == (host, password)


def test_the_scheme_selects_the_client_and_its_connections() -> None:
    single = make_client("rediss://127.0.0.1:1/3", "app", 1.0)
    assert isinstance(single, SingleClient)
    assert single.pool.connection_class is SSLConnection
    assert single.pool.connection_kwargs["db"] == 3
    unix = make_client("unix:///run/redis.sock", "app", 1.0)
    assert isinstance(unix, SingleClient)
    assert unix.pool.connection_class is UnixDomainSocketConnection
    cluster = make_client("rediss+cluster://127.0.0.1:1", "app", 1.0)
    assert isinstance(cluster, ClusterClient)
    assert cluster.url == "rediss://127.0.0.1:1"
    assert cluster.sharded


def test_a_sentinel_url_has_servers_a_service_and_an_account() -> None:
    url = "redis+sentinel://bob:a%2Fb@10.0.0.5:1,10.0.0.6/rooms/2"
    client = make_client(url, "app", 1.0)
    assert isinstance(client, SingleClient)
    ports = [each.connection_pool.connection_kwargs["port"] for each in client.sentinels]
    assert ports == [1, 26379]
    options = client.pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("bob", "a/b", 2)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:7", ("10.0.0.1", 7)),
        ("redis.example", ("redis.example", 26379)),
        ("[::1]", ("::1", 26379)),
        ("[::1]:7", ("::1", 7)),
    ],
)
def test_an_address_has_an_optional_port(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", ":7", "host:port"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"not a host|Port"):
        parse_address(address)
