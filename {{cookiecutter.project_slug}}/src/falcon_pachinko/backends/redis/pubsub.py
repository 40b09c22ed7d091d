"""Pub/sub on Redis or Valkey: monitored connections that reconnect until stopped."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, NamedTuple

from ...errors import failure_reason
from ...support.tasks import TaskSet, cancel, ignore, retrieve_exception
from .availability import max_delay_seconds
from .client import CONNECTION_ERRORS, RedisClient
from .confirmations import Confirmations
from .resp import RespConnection

logger = logging.getLogger(__name__)

# The number of checks of a silent connection within answer_seconds.
CHECKS_PER_TIMEOUT = 4

# How long channels are collected before they are unsubscribed with one command.
UNSUBSCRIBE_SECONDS = 0.05

# The maximum number of channels per command; in a cluster, those of one command must be in one slot.
CHANNELS_PER_COMMAND = 500


class Batch(NamedTuple):
    """Channels to subscribe to with one command, and the future of its completion."""

    done: asyncio.Future[None]
    channels: list[str]


class PubSub:
    """Receives the messages of channels.

    A connection without any reply, even to a PING, within ``answer_seconds`` is lost: TCP does not notice a
    half-open one. After a loss all connections are opened again, until stopped.

    Attributes:
        active_servers: Servers that have sent something since the last check.
        channels: The channels to subscribe to.
        connections: The open connections by server.
        is_subscribed: Whether all channels are subscribed.

    Args:
        client: Opens connections.
        on_message: Called with the channel and the data of each message.
        on_subscribed: Called each time all channels are subscribed; it fetches what was missed.
        on_lost: Called with the reason after each loss.
    """

    def __init__(
        self,
        client: RedisClient,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[], Awaitable[None]],
        on_lost: Callable[[str], None],
    ) -> None:
        self.client = client
        self.on_message = on_message
        self.on_subscribed = on_subscribed
        self.on_lost = on_lost
        self.channels: dict[str, None] = {}
        self.connections: dict[str, RespConnection] = {}
        self.is_subscribed = False
        self.confirmations = Confirmations()
        self.active_servers: set[str] = set()
        self.failure: asyncio.Future[None] | None = None
        self.has_synced = False
        self.batch: Batch | None = None
        self.leaving: dict[str, Callable[[], None]] = {}
        self.tasks = TaskSet()

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel; during an outage, once it is over. Raises if the connection is lost meanwhile."""
        self.channels[channel] = None
        if not self.is_subscribed or self.leaving.pop(channel, None) is not None:
            return
        if self.batch is None:
            self.batch = Batch(asyncio.get_running_loop().create_future(), [])
            self.tasks.create_task(self._subscribe_batch(self.batch))
        self.batch.channels.append(channel)
        await asyncio.shield(self.batch.done)

    async def _subscribe_batch(self, batch: Batch) -> None:
        """Subscribe to the channels of one loop iteration."""
        self.batch = None
        try:
            await self.subscribe_now(batch.channels)
        except Exception as error:
            batch.done.set_exception(error)
            batch.done.exception()  # marks it as retrieved for asyncio
        else:
            batch.done.set_result(None)

    def unsubscribe(self, channel: str, on_done: Callable[[], None]) -> None:
        """Unsubscribe from a channel; ``on_done`` is called with Redis's confirmation.

        Channels are collected for a short time; one that is subscribed again meanwhile is not unsubscribed.
        """
        self.channels.pop(channel, None)
        if self.is_subscribed:
            if not self.leaving:
                self.tasks.call_later(UNSUBSCRIBE_SECONDS, self._unsubscribe_batch)
            self.leaving[channel] = on_done

    def _unsubscribe_batch(self) -> None:
        leaving, self.leaving = self.leaving, {}
        for server, names in self.by_server(leaving).items():
            connection = self.connections.get(server)
            if connection is not None:
                for chunk in self.commands_for(names):
                    self.send_unsubscribe(connection, {name: leaving[name] for name in chunk})

    def by_server(self, channels: Iterable[str]) -> dict[str, list[str]]:
        """Group channels by their server."""
        found: dict[str, list[str]] = {}
        for channel in channels:
            found.setdefault(self.client.server_of(channel), []).append(channel)
        return found

    def commands_for(self, names: list[str]) -> Iterator[list[str]]:
        """Split channels into those of one command."""
        per_command = 1 if self.client.sharded else CHANNELS_PER_COMMAND
        for start in range(0, len(names), per_command):
            yield names[start : start + per_command]

    def restart(self, reason: str) -> None:
        """Close all connections and open them again."""
        if self.failure is not None and not self.failure.done():
            self.failure.set_exception(ConnectionError(reason))
            self.failure.exception()  # marks it as retrieved for asyncio

    async def run(self) -> None:
        """Connect, and reconnect after each loss, until cancelled."""
        attempt = 0
        while True:
            reason = ""
            try:
                await self.listen()
            except Exception as error:
                if not isinstance(error, CONNECTION_ERRORS):
                    logger.exception("Redis: unexpected error in pub/sub")
                reason = failure_reason(error)
            if self.has_synced:
                attempt = 0
            await self.aclose()
            self.on_lost(reason)
            longest = max_delay_seconds(attempt, self.client.answer_seconds)
            attempt += 1
            await asyncio.sleep(random.uniform(0.0, longest))

    async def aclose(self) -> None:
        """Close all connections and fail the pending subscriptions."""
        self.is_subscribed = self.has_synced = False
        self.failure = None
        self.leaving.clear()
        connections, self.connections = self.connections, {}
        for connection in connections.values():
            await connection.close()
        self.active_servers.clear()
        self.confirmations.fail_all()

    async def listen(self) -> None:
        """Subscribe to all channels and monitor the connections; raise the first failure."""
        loop = asyncio.get_running_loop()
        self.failure = failure = loop.create_future()
        async with asyncio.timeout(2 * self.client.answer_seconds):
            await self.client.refresh_topology()
            await self.wait_or_fail(self.subscribe_all(), failure)
        syncing = loop.create_task(self.sync())
        try:
            silent_checks: dict[str, int] = {}
            while not failure.done():
                seconds = self.client.answer_seconds / CHECKS_PER_TIMEOUT
                await asyncio.wait({failure}, timeout=seconds)
                for server, connection in self.connections.items():
                    is_active = server in self.active_servers
                    silent_checks[server] = 0 if is_active else silent_checks.get(server, 0) + 1
                    if silent_checks[server] >= CHECKS_PER_TIMEOUT - 1:
                        raise TimeoutError
                    if silent_checks[server]:
                        self.send(connection, "PING")
                self.active_servers.clear()
            failure.result()
        finally:
            syncing.cancel()
            await asyncio.wait({syncing})

    async def sync(self) -> None:
        """Fetch what was missed; restart if that fails."""
        try:
            await self.on_subscribed()
        except Exception as error:
            if not isinstance(error, CONNECTION_ERRORS):
                logger.exception("Redis: unexpected error in the recovery from an outage")
            self.restart(failure_reason(error))
        else:
            self.has_synced = True

    async def wait_or_fail(
        self, operation: Coroutine[Any, Any, None], failure: asyncio.Future[None]
    ) -> None:
        """Wait for an operation, or raise a connection's failure; in either case the operation has ended."""
        task = asyncio.create_task(operation)
        task.add_done_callback(retrieve_exception)  # both may fail at the same time
        try:
            await asyncio.wait({task, failure}, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                failure.result()
            await task
        finally:
            await cancel({task})

    async def subscribe_all(self) -> None:
        """Subscribe to all channels, those added meanwhile included."""
        subscribed: set[str] = set()
        while missing := self.channels.keys() - subscribed:
            subscribed |= missing
            await self.subscribe_now(missing)
        for channel in subscribed - self.channels.keys():
            connection = self.connections[self.client.server_of(channel)]
            self.send_unsubscribe(connection, {channel: ignore})
        # NOTE: no await since the check for missing channels: a channel added in between would be left out.
        self.is_subscribed = True

    async def subscribe_now(self, channels: Iterable[str]) -> None:
        """Subscribe to channels and wait for Redis's confirmations."""
        confirmations: list[asyncio.Future[None]] = []
        for server, names in self.by_server(channels).items():
            connection = await self.connection_to(server)
            confirmations += [self.confirmations.expect(name) for name in names]
            for chunk in self.commands_for(names):
                self.send(connection, self.client.subscribe_command, *chunk)
        await asyncio.gather(*confirmations)

    async def connection_to(self, server: str) -> RespConnection:
        """Return the connection to a server; open it on first use."""
        if (known := self.connections.get(server)) is not None:
            return known
        opened = await self.client.open_pubsub_connection(server)
        if server in self.connections:
            await opened.disconnect(nowait=True)
            return self.connections[server]
        connection = RespConnection(
            opened, lambda reply: self.on_reply(server, reply), self.on_connection_lost
        )
        self.connections[server] = connection
        return connection

    def send_unsubscribe(
        self, connection: RespConnection, callbacks: dict[str, Callable[[], None]]
    ) -> None:
        """Write an unsubscribe command, and register the callback for the confirmation of each channel."""
        for channel, on_done in callbacks.items():
            self.confirmations.expect_end(channel, on_done)
        self.send(connection, self.client.unsubscribe_command, *callbacks)

    def send(self, connection: RespConnection, *command: str) -> None:
        """Write a command; its reply arrives among the messages."""
        try:
            connection.send(*command)
        except CONNECTION_ERRORS as error:
            self.on_connection_lost(error)

    def on_connection_lost(self, error: Exception) -> None:
        """Restart after the loss of a connection."""
        self.restart(failure_reason(error))

    def on_reply(self, server: str, reply: Any) -> None:
        """Handle a reply; restart if it is an error."""
        self.active_servers.add(server)
        try:
            self.handle(reply)
        except CONNECTION_ERRORS as error:
            self.on_connection_lost(error)

    def handle(self, reply: list[Any]) -> None:
        """Handle a message or the reply to a command.

        Raises:
            ConnectionError: The connections must be opened again.
        """
        if isinstance(reply, Exception):
            raise ConnectionError(str(reply))
        kind = reply[0]
        if kind in (b"message", b"smessage"):
            try:
                self.on_message(reply[1], reply[2])
            except Exception:
                logger.exception("Redis: a message on %r is invalid and was dropped", reply[1])
        elif kind in (b"subscribe", b"ssubscribe"):
            self.confirmations.confirm(reply[1])
        elif kind in (b"unsubscribe", b"sunsubscribe"):
            self.confirmations.confirm_end(reply[1])
