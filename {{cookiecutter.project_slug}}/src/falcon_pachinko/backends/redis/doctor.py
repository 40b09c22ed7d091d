"""The checks of Redis or Valkey for operators: one finding per check, and per server of a cluster."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from ...errors import failure_reason
from ..finding import Finding, Outcome
from .client import CONNECTION_ERRORS, RedisClient
from .leftovers import Leftovers, find_leftovers, read_ownership
from .permissions import find_missing_rights
from .server_info import NO_EVICTION, UNKNOWN, ServerInfo, call, read_info
from .url import make_client

MIN_VERSION = (7, 0)
# A server's checks may take this many times the timeout of one response.
CHECKS = 3
PINGS = 20
MAX_LATENCY_SECONDS = 0.005
MAX_CLOCK_OFFSET_SECONDS = 1.0
# The least time between two readings of a clock that has to advance.
CLOCK_SECONDS = 0.05


async def diagnose_redis(url: str, prefix: str, answer_seconds: float) -> list[Finding]:
    """Check the servers of a URL; see :func:`~falcon_pachinko.backends.doctor.diagnose`.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    client = make_client(url, prefix, answer_seconds)
    findings: list[Finding] = []
    connections: dict[str, AbstractConnection] = {}
    try:
        async with asyncio.timeout(answer_seconds):
            await client.refresh_topology()
            for server in client.servers():
                connections[server] = await client.open_pubsub_connection(server)
        text = f"connected to {shown_url(url)}"
        servers = f", {len(connections)} servers" if client.sharded else ""
        findings.append(Finding(Outcome.OK, "Redis", text + servers))
        for server, connection in connections.items():
            findings += await check_server(client, server, connection)
        findings += await check_nodes(client, connections)
    except CONNECTION_ERRORS as error:
        findings.append(connection_failure(url, error, was_connected=bool(findings)))
    finally:
        for connection in connections.values():
            await connection.disconnect(nowait=True)
        await client.aclose()
    return findings


def shown_url(url: str) -> str:
    """Return a URL without the user, the password and the options, of which one may be a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connection_failure(url: str, error: BaseException, *, was_connected: bool) -> Finding:
    """Return the finding for a lost connection, or one that was refused."""
    reason = failure_reason(error)
    if was_connected:
        next_step = "repeat the check; if it fails again, see the log of Redis"
    elif re.search(r"no permissions?\b", reason, re.IGNORECASE):
        next_step = "give the user the rights +cluster|slots +command +ping"
    else:
        next_step = "check that Redis is running, and the URL, the password and the network"
    state = "lost the connection to" if was_connected else "cannot connect to"
    return Finding(Outcome.FAILURE, "Redis", f"{state} {shown_url(url)}: {reason}", next_step)


async def check_server(
    client: RedisClient, server: str, connection: AbstractConnection
) -> list[Finding]:
    """Check one server.

    Raises:
        redis.exceptions.RedisError: The connection is lost; also OSError, and TimeoutError if the checks take
            longer than ``CHECKS`` times ``answer_seconds``.
    """
    async with asyncio.timeout(CHECKS * client.answer_seconds):
        info = await read_info(server, connection)
        findings = [
            version_finding(info),
            await check_rights(client, server),
            memory_finding(info),
            await check_clock(connection),
            await check_latency(connection),
        ]
    if not server:
        return findings
    return [replace(finding, subject=f"{finding.subject} of {server}") for finding in findings]


def skipped(subject: str, right: str) -> Finding:
    """Return the finding of a check without a right."""
    return Finding(
        Outcome.SKIPPED,
        subject,
        f"the user has not the right {right}",
        f"give it {right} to check this",
    )


def version_finding(info: ServerInfo) -> Finding:
    """Check that the script of the nodes can run."""
    if not info.version:
        return skipped("version", "+info")
    numbers = tuple(int(part) for part in re.findall(r"\d+", info.version)[:2])
    if numbers < MIN_VERSION:
        return Finding(
            Outcome.FAILURE, "version", info.version, "use Redis 7.0 or newer, or Valkey"
        )
    return Finding(Outcome.OK, "version", f"{info.version}, or compatible with it")


def memory_finding(info: ServerInfo) -> Finding:
    """Check that the server deletes no keys at its bound of memory."""
    if info.maxmemory_policy == UNKNOWN:
        return skipped("memory", "+info")
    bound = f"{info.maxmemory_bytes} bytes" if info.maxmemory_bytes else "no bound"
    text = f"maxmemory-policy {info.maxmemory_policy}, {bound}"
    if info.maxmemory_policy == NO_EVICTION:
        return Finding(Outcome.OK, "memory", text)
    next_step = "set maxmemory-policy to noeviction: an eviction loses data of a room"
    return Finding(Outcome.WARNING, "memory", text, next_step)


async def check_rights(client: RedisClient, server: str) -> Finding:
    """Try the commands of a node on a connection of their own, which may be left subscribed."""
    connection = await client.open_pubsub_connection(server)
    try:
        missing = await find_missing_rights(client, connection)
    except ReadOnlyError:
        next_step = "name the primary in the URL, or its Sentinels"
        return Finding(Outcome.FAILURE, "rights", "the server is a read-only replica", next_step)
    finally:
        await connection.disconnect(nowait=True)
    if not missing:
        return Finding(Outcome.OK, "rights", "the user may execute all commands of a node")
    rules = " ".join(missing)
    return Finding(
        Outcome.FAILURE, "rights", f"the user lacks {rules}", f"ACL SETUSER <user> {rules}"
    )


@dataclass(frozen=True, slots=True)
class ClockSample:
    """A reading of a server's clock.

    Attributes:
        server_seconds: The time of the server since the epoch.
        offset_seconds: How far it is ahead of this machine's clock.
        error_seconds: The maximum error of the offset: half of the round trip.
    """

    server_seconds: float
    offset_seconds: float
    error_seconds: float


async def read_clock(connection: AbstractConnection) -> ClockSample:
    """Read a server's clock."""
    before = time.time()
    seconds, microseconds = await call(connection, "TIME")
    after = time.time()
    now = int(seconds) + int(microseconds) / 1e6
    return ClockSample(now, now - (before + after) / 2, (after - before) / 2)


async def check_clock(connection: AbstractConnection) -> Finding:
    """Compare a server's clock with this machine's, and with itself after a moment."""
    try:
        first = await read_clock(connection)
        await asyncio.sleep(CLOCK_SECONDS)
        return clock_finding(first, await read_clock(connection))
    except NoPermissionError:
        return skipped("clock", "+time")


def clock_finding(first: ClockSample, second: ClockSample) -> Finding:
    """Check two readings of a clock."""
    if second.server_seconds <= first.server_seconds:
        text = "TIME does not advance, so that nothing would ever expire"
        return Finding(Outcome.FAILURE, "clock", text, "correct the clock of Redis's machine")
    offset = second.offset_seconds
    text = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
    if abs(offset) - second.error_seconds <= MAX_CLOCK_OFFSET_SECONDS:
        return Finding(Outcome.OK, "clock", text)
    # NOTE: the nodes use the clock of Redis only; times in logs and tokens do not agree.
    return Finding(Outcome.WARNING, "clock", text, "synchronize both clocks, such as with NTP")


async def check_latency(connection: AbstractConnection) -> Finding:
    """Measure the round trips of some PINGs."""
    times = []
    try:
        for _ in range(PINGS):
            started = time.perf_counter()
            await call(connection, "PING")
            times.append(time.perf_counter() - started)
    except NoPermissionError:
        return skipped("latency", "+ping")
    median = statistics.median(times)
    text = f"{median * 1000:.1f} ms, the median of {PINGS} PINGs"
    if median <= MAX_LATENCY_SECONDS:
        return Finding(Outcome.OK, "latency", text)
    next_step = "move Redis near the nodes: each message waits for one round trip"
    return Finding(Outcome.WARNING, "latency", text, next_step)


async def check_nodes(
    client: RedisClient, connections: Mapping[str, AbstractConnection]
) -> list[Finding]:
    """Count the live nodes, and the keys that none of them owns.

    Raises:
        redis.exceptions.RedisError: See :func:`check_server`.
    """
    try:
        nodes, _ = await read_ownership(client)
    except ResponseError as error:
        text = f"the script fails: {error}"
        return [
            Finding(Outcome.FAILURE, "nodes", text, "see the rights above, or the log of Redis")
        ]
    text = "1 is running" if len(nodes) == 1 else f"{len(nodes)} are running"
    found = Finding(Outcome.OK, "nodes", text)
    try:
        async with asyncio.timeout(CHECKS * client.answer_seconds):
            return [found, leftovers_finding(await find_leftovers(client, connections))]
    except NoPermissionError:
        # NOTE: SCAN shows the names of other services' keys, so that a node has no right to it.
        return [found, skipped("keys", "+scan")]


def leftovers_finding(leftovers: Leftovers) -> Finding:
    """Report the keys without a live node; those that expire by themselves are normal."""
    least = "" if leftovers.complete else "at least "
    if not leftovers.unowned:
        text = f"{least}{leftovers.keys} with the prefix; each belongs to a live node"
        return Finding(Outcome.OK, "keys", text)
    text = f"{least}{leftovers.unowned} of {least}{leftovers.keys} with the prefix belong to no live node"
    if not leftovers.permanent:
        return Finding(Outcome.OK, "keys", f"{text}; they expire by themselves")
    text += f", and at least {len(leftovers.permanent)} of them never expire"
    next_step = (
        f"delete them if no other service uses the prefix, such as {leftovers.permanent[0]!r}"
    )
    return Finding(Outcome.WARNING, "keys", text, next_step)
