"""The confirmations of Redis or Valkey for subscribed and unsubscribed channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Confirmations:
    """The commands on channels whose confirmation is expected, in the order in which they were written."""

    def __init__(self) -> None:
        self.subscribing: dict[bytes, list[asyncio.Future[None]]] = {}
        self.unsubscribing: dict[bytes, list[Callable[[], None]]] = {}

    def expect(self, channel: str) -> asyncio.Future[None]:
        """Return a future that is completed when a channel is subscribed."""
        confirmation: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.subscribing.setdefault(channel.encode(), []).append(confirmation)
        return confirmation

    def expect_end(self, channel: str, on_done: Callable[[], None]) -> None:
        """Call a function when a channel is unsubscribed."""
        self.unsubscribing.setdefault(channel.encode(), []).append(on_done)

    def confirm(self, channel: bytes) -> None:
        """Complete the first future of a channel."""
        futures = self.subscribing.get(channel)
        if futures:
            confirmation = futures.pop(0)
            if not confirmation.done():
                confirmation.set_result(None)
            if not futures:
                del self.subscribing[channel]

    def confirm_end(self, channel: bytes) -> None:
        """Call the first function of a channel.

        Raises:
            ConnectionError: None was expected.
        """
        callbacks = self.unsubscribing.get(channel)
        if not callbacks:
            raise ConnectionError("a room has moved to another server of the cluster")
        callbacks.pop(0)()
        if not callbacks:
            del self.unsubscribing[channel]

    def fail_all(self) -> None:
        """Fail all futures, and forget all functions: the connections are closed."""
        self.unsubscribing.clear()
        subscribing, self.subscribing = self.subscribing, {}
        for futures in subscribing.values():
            for future in futures:
                if not future.done():
                    future.set_exception(ConnectionError("the connection to Redis was lost"))
                    future.exception()  # marks it as retrieved for asyncio
