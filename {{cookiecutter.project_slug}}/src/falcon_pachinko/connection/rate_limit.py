"""Rate limits: token buckets with a debt, shared by the connections of a user or of an address."""

from __future__ import annotations

import functools
import math
import socket
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

from ..limits import Limits

# The IPv4 address is in the last 4 bytes: IPv4-mapped addresses (RFC 4291, section 2.5.5.2) and those of a
# translator (RFC 6052, section 2.1).
IPV4_PREFIXES = (bytes(10) + b"\xff\xff", b"\x00\x64\xff\x9b" + bytes(8))
IPV6_NETWORK_BYTES = 8
# A host that is not an address, as a proxy may report one.
MAX_HOST_LENGTH = 64
# A client is closed for the debt of its user or address only after so many refused messages of its own.
REFUSALS_BEFORE_CLOSE = 10
# Buckets that a look-up checks. More than one, or new keys would come faster than full buckets go.
CHECKS = 2


class TokenBucket:
    """A token bucket that may go into debt, down to minus its size.

    The debt distinguishes a client that keeps sending too fast from one that did so once.

    Attributes:
        holders: The number of owners that keep the bucket from being discarded (see :class:`TokenBuckets`).

    Args:
        per_second: The number of tokens added per second; ``math.inf`` for no bound.
        size: The initial and maximum number of tokens.
        now: The current time in seconds of any monotonic clock.
    """

    __slots__ = ("at", "holders", "per_second", "size", "tokens")

    def __init__(self, per_second: float, size: float, now: float) -> None:
        if per_second == math.inf:
            per_second, size = 0.0, math.inf  # zero seconds times inf would be nan
        self.per_second = per_second
        self.size = size
        self.at = now
        self.tokens = float(size)
        self.holders = 0

    def take(self, now: float) -> bool:
        """Take a token, or add one to the debt; return whether one was available."""
        tokens = self.tokens + (now - self.at) * self.per_second
        if tokens > self.size:  # PERF: half the cost of min()
            tokens = self.size
        self.at = now
        self.tokens = tokens = tokens - 1.0
        if tokens >= 0.0:
            return True
        if tokens < -self.size:
            self.tokens = -self.size
        return False

    def take_available(self, now: float) -> bool:
        """Take a token if one is available; never go into debt."""
        if self.take(now):
            return True
        self.tokens += 1.0
        return False

    def charge(self, tokens: float) -> None:
        """Take tokens whether or not they are available, down to the maximum debt."""
        self.tokens = max(self.tokens - tokens, -self.size)

    def is_full(self, now: float) -> bool:
        """Return whether the bucket equals a new one."""
        return self.tokens + (now - self.at) * self.per_second >= self.size

    @property
    def empty_seconds(self) -> float:
        """The time until a token is available."""
        return max(0.0, (1.0 - self.tokens) / self.per_second)

    @property
    def exhausted(self) -> bool:
        """Whether the debt has reached its maximum."""
        return self.tokens <= -self.size


class TokenBuckets:
    """Token buckets by key. A bucket that is full again and has no holder is discarded.

    Each look-up takes constant time and checks a few buckets in turn, so in the long run there are at most
    about twice as many as are held or not full.

    Args:
        per_second: The number of tokens added to each bucket per second; ``math.inf`` for no bound.
        size: The initial and maximum number of tokens of each bucket.
    """

    def __init__(self, per_second: float, size: float) -> None:
        self.per_second = per_second
        self.size = size
        self.buckets: dict[Hashable, TokenBucket] = {}
        self.turns: deque[Hashable] = deque()

    def __len__(self) -> int:
        return len(self.buckets)

    def of(self, key: Hashable, now: float) -> TokenBucket:
        """Return the bucket of a key.

        A caller that keeps it beyond the current iteration of the event loop adds one to its ``holders``.
        """
        self._discard_full(now)
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = TokenBucket(self.per_second, self.size, now)
            self.turns.append(key)
        return bucket

    def _discard_full(self, now: float) -> None:
        for _ in range(min(CHECKS, len(self.turns))):
            key = self.turns.popleft()
            bucket = self.buckets[key]
            if bucket.holders == 0 and bucket.is_full(now):
                del self.buckets[key]
            else:
                self.turns.append(key)


NO_BOUND = TokenBucket(math.inf, 1, 0.0)


class MessageRate:
    """The rate of one connection's messages: the bucket of its user, and that of its address.

    A message that exceeds the rate of the user costs the address nothing, so that a user cannot use up the
    rate of others behind the same address.

    Attributes:
        refused: The number of this connection's messages above the rate.
    """

    __slots__ = ("address", "refused", "user")

    def __init__(self, user: TokenBucket, address: TokenBucket) -> None:
        self.user = user
        self.address = address
        self.refused = 0

    def take(self, now: float) -> bool:
        """Take a token of both; return whether the message is to be handled."""
        # PERF: TokenBucket.take() twice in place; each call would cost as much as one of them.
        bucket = self.user
        tokens = bucket.tokens + (now - bucket.at) * bucket.per_second
        if tokens > bucket.size:
            tokens = bucket.size
        bucket.at = now
        bucket.tokens = tokens = tokens - 1.0
        if tokens >= 0.0:
            bucket = self.address
            tokens = bucket.tokens + (now - bucket.at) * bucket.per_second
            if tokens > bucket.size:
                tokens = bucket.size
            bucket.at = now
            bucket.tokens = tokens = tokens - 1.0
            if tokens >= 0.0:
                return True
        if tokens < -bucket.size:
            bucket.tokens = -bucket.size
        self.refused += 1
        return False

    @property
    def exceeded(self) -> TokenBucket:
        """The bucket that refused the last message."""
        return self.user if self.user.tokens < 0.0 else self.address

    @property
    def exhausted(self) -> bool:
        """Whether the debt is at its maximum and this connection has a part in it."""
        bucket = self.exceeded
        return bucket.exhausted and self.refused >= min(REFUSALS_BEFORE_CLOSE, bucket.size)


class MessageRates:
    """The rates of all connections of a process, by user and by address.

    Args:
        users_per_address: An address has so many times the rate of a user.
    """

    def __init__(self, users_per_address: float) -> None:
        self.users_per_address = users_per_address
        self.users: dict[tuple[float, float], TokenBuckets] = {}
        self.addresses: dict[tuple[float, float], TokenBuckets] = {}
        self.types: dict[Hashable, TokenBuckets] = {}

    def hold(
        self, limits: Limits, user: Hashable, address: str | None, now: float
    ) -> MessageRate | None:
        """Return the rate of a connection until :meth:`release`; ``None`` for no bound.

        Connections of one user share the bucket of the user, if their routes have the same rate. An
        anonymous connection has a bucket of its own.
        """
        per_second, burst = limits.messages_per_second, limits.message_burst
        if per_second == math.inf:
            return None
        if user is None:
            of_user = TokenBucket(per_second, burst, now)
        else:
            of_user = buckets_of(self.users, per_second, burst).of(user, now)
        of_address = NO_BOUND
        if address is not None:
            times = self.users_per_address
            of_address = buckets_of(self.addresses, per_second * times, burst * times).of(
                address, now
            )
        of_user.holders += 1
        of_address.holders += 1
        return MessageRate(of_user, of_address)

    def release(self, rate: MessageRate | None) -> None:
        """Let the buckets of an ended connection be discarded when they are full."""
        if rate is not None:
            rate.user.holders -= 1
            rate.address.holders -= 1

    def of_type(self, key: Hashable, per_second: float, burst: float) -> TokenBuckets:
        """Return the buckets of one message type."""
        buckets = self.types.get(key)
        if buckets is None:
            buckets = self.types[key] = TokenBuckets(per_second, burst)
        return buckets


def buckets_of(
    by_rate: dict[tuple[float, float], TokenBuckets], per_second: float, size: float
) -> TokenBuckets:
    """Return the buckets of a rate, made on first use."""
    key = (per_second, size)
    if key not in by_rate:
        by_rate[key] = TokenBuckets(per_second, size)
    return by_rate[key]


def address_of(scope: Mapping[str, Any]) -> str | None:
    """Return the key under which the connections of a client's address are counted.

    It is the IPv4 address, or the IPv6 network /64, which is what one customer gets (RFC 6177). ``None``
    if the server does not know the address, as on a Unix socket.

    Args:
        scope: The scope of a request. Its ``client`` is the forwarded address behind a trusted proxy.
    """
    client = scope.get("client")
    host = client[0] if client else None
    if not host or not isinstance(host, str):
        return None
    # SECURITY: the cache keeps its keys, and a proxy may report any text of a client.
    return key_of(host) if len(host) <= MAX_HOST_LENGTH else host[:MAX_HOST_LENGTH]


# PERF: the key is needed several times for each connection.
@functools.lru_cache(maxsize=1024)
def key_of(host: str) -> str:
    """Return the key of a client's host: see :func:`address_of`."""
    if host.startswith("["):  # some proxies report the port as well
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return host[:MAX_HOST_LENGTH]
    if packed[:12] in IPV4_PREFIXES:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    network = packed[:IPV6_NETWORK_BYTES] + bytes(16 - IPV6_NETWORK_BYTES)
    return socket.inet_ntop(socket.AF_INET6, network) + "/64"
