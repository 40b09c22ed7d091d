"""Backend URLs: how Redis or Valkey is reached, as a single server, through Sentinels or as a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException
from redis.maint_notifications import MaintNotificationsConfig

from ...errors import ConfigurationError
from ..timing import ANSWER_SECONDS
from .client import RedisClient, SingleClient
from .cluster import ClusterClient

DEFAULT_SENTINEL_PORT = 26379


def make_client(
    url: str, prefix: str, answer_seconds: float, history_bytes: int = 0
) -> RedisClient:
    """Create the client for a URL, without connecting.

    Args:
        url: ``redis://``, ``rediss://`` and ``unix://`` as redis-py reads them;
            ``redis+sentinel://host:port,host:port/service/database`` for the master that Sentinels report;
            ``redis+cluster://host:port`` for any node of a cluster; the last two also with ``rediss``.
        prefix: Prefix of all keys and channels.
        answer_seconds: The time Redis may take to respond.
        history_bytes: The maximum size of all histories in the server; 0 for a client that enforces none.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    # SECURITY: the message quotes no part of the URL: each may belong to a password.
    try:
        check_unambiguous(url)
        scheme = url.partition(":")[0]
        if scheme in ("redis+cluster", "rediss+cluster"):
            return ClusterClient(url.replace("+cluster", "", 1), prefix, answer_seconds)
        pool, sentinels = make_pool(url, answer_seconds)
        return SingleClient(pool, sentinels, prefix, answer_seconds, history_bytes)
    except (ValueError, TypeError, RedisClusterException):
        raise ConfigurationError(
            "the backend's URL cannot be used: write it like redis://127.0.0.1:6379/0,"
            " redis+cluster://10.0.0.5:6379 or redis+sentinel://10.0.0.5:26379,10.0.0.6:26379/service/0, with"
            " a password in percent-encoding, and with no options that redis-py does not know"
        ) from None


def check_unambiguous(url: str) -> None:
    """Refuse a URL in which a password without percent-encoding could be read as a host or a path.

    SECURITY: the host appears in errors, in the log and in ``/ready``, and ``redis://:pass@wo/rd@host`` would
    name the host ``wo``.

    Raises:
        ValueError: The URL is ambiguous.
    """
    parts = urlsplit(url)
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError("a password needs percent-encoding")
    if parts.scheme != "unix" and not parts.scheme.endswith("+sentinel"):
        database = parts.path.strip("/")
        if database and not database.isdecimal():
            raise ValueError("the path is the number of a database")


def check_url(url: str) -> None:
    """Check that :func:`make_client` can use a URL.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    make_client(url, "", ANSWER_SECONDS)


def make_pool(url: str, connect_seconds: float) -> tuple[ConnectionPool, list[Redis]]:
    """Create the connection pool for the server of a URL, and the clients of its Sentinels.

    Raises:
        ValueError: The URL cannot be used.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        # NOTE: with a timeout, redis-py writes within asyncio.wait_for, which costs a task per call and,
        #   before Python 3.12, swallows a cancellation that arrives with the result.
        "socket_timeout": None,
        "socket_connect_timeout": connect_seconds,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        # NOTE: a retry could publish twice.
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme != "unix":
        options["socket_keepalive"] = True
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        service, _, database = parts.path.strip("/").partition("/")
        if not service or not (database or "0").isdecimal():
            raise ValueError("a Sentinel URL needs /service or /service/database")
        account, _, hosts = parts.netloc.rpartition("@")
        if account:
            username, _, password = account.partition(":")
            options |= {"username": unquote(username) or None, "password": unquote(password)}
        if parts.scheme.startswith("rediss"):
            options["ssl"] = True
        addresses = [parse_address(address) for address in hosts.split(",")]
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            addresses,
            sentinel_kwargs={
                key: value
                for key, value in options.items()
                if key in ("socket_connect_timeout", "ssl")
            }
            | {"socket_timeout": connect_seconds},
        )
        client: Redis = sentinel.master_for(service, db=int(database or "0"), **options)
        return client.connection_pool, sentinel.sentinels
    return ConnectionPool.from_url(url, **options), []


def parse_address(address: str) -> tuple[str, int]:
    """Parse a host and an optional port, such as ``10.0.0.1:26379`` or ``[::1]``."""
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        raise ValueError(f"{address!r} is not a host")
    return parts.hostname, parts.port or DEFAULT_SENTINEL_PORT
