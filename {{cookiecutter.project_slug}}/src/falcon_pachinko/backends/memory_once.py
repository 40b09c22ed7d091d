"""The requests of a single process that are handled once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from .once import (
    MAX_CLIENTS,
    MAX_REPLIES,
    MAX_REPLY_BYTES,
    Claim,
    ClaimState,
    OnceRequests,
    OnceRun,
    RequestKey,
    stored_reply,
)

# The bound of all clients together, and what a client and a request take besides their texts (measured: 800 and 400).
MAX_MEMORY_BYTES = 32 * 1024 * 1024
CLIENT_OVERHEAD_BYTES = 800
REQUEST_OVERHEAD_BYTES = 400


class StoredRequest:
    """A request: its state, its reply, and the time at which it is forgotten, on the event loop's clock."""

    __slots__ = ("reply", "run", "state", "until")

    def __init__(self, run: OnceRun, state: ClaimState, reply: bytes, until: float) -> None:
        self.run = run
        self.state = state
        self.reply = reply
        self.until = until


class ClientRequests:
    """The requests of one client by reference, the last changed one last, and the size of their texts."""

    __slots__ = ("by_ref", "size_bytes", "until")

    def __init__(self) -> None:
        self.by_ref: OrderedDict[str, StoredRequest] = OrderedDict()
        self.size_bytes = 0
        self.until = 0.0

    def drop(self, ref: str) -> None:
        """Forget a request."""
        if (found := self.by_ref.pop(ref, None)) is not None:
            self.size_bytes -= len(ref) + len(found.reply)

    def put(self, ref: str, request: StoredRequest) -> None:
        """Store a request, and drop the oldest ones above the bounds."""
        self.drop(ref)
        self.by_ref[ref] = request
        self.size_bytes += len(ref) + len(request.reply)
        self.until = max(self.until, request.until)
        while len(self.by_ref) > MAX_REPLIES or self.size_bytes > MAX_REPLY_BYTES:
            self.drop(next(iter(self.by_ref)))

    @property
    def memory_bytes(self) -> int:
        """The memory that it takes."""
        return CLIENT_OVERHEAD_BYTES + self.size_bytes + REQUEST_OVERHEAD_BYTES * len(self.by_ref)


class MemoryOnce(OnceRequests):
    """The requests of a single process that are handled once.

    Attributes:
        clients: The requests by user and client, the least recently used client first.
        memory_bytes: The memory of all of them.

    Args:
        max_bytes: The maximum memory; above it the least recently used clients are dropped.
    """

    def __init__(self, max_bytes: int = MAX_MEMORY_BYTES) -> None:
        self.max_once_bytes = max_bytes
        self.once_bytes = 0
        self.once_clients: OrderedDict[tuple[str | None, str], ClientRequests] = OrderedDict()
        self.once_users: dict[str, OrderedDict[str, None]] = {}

    async def claim_request(self, run: OnceRun, *, repeatable: bool) -> Claim:
        """Claim a request at once."""
        found = self._find(run.key)
        if found is not None and not (found.state is ClaimState.INTERRUPTED and repeatable):
            return Claim(found.state, found.reply)
        self._put(run, ClaimState.RUNNING)
        return Claim(ClaimState.NEW)

    def finish_request(self, run: OnceRun, reply: bytes) -> None:
        """Store the reply."""
        self._put(run, ClaimState.DONE, stored_reply(reply))

    def release_request(self, run: OnceRun, *, repeatable: bool) -> None:
        """Release a claim."""
        if run.published:
            self._put(run, ClaimState.DONE)
        elif not repeatable:
            self._put(run, ClaimState.INTERRUPTED)
        elif (client := self.once_clients.get(run.key[:2])) is not None:
            self.once_bytes -= client.memory_bytes
            client.drop(run.key.ref)
            self.once_bytes += client.memory_bytes

    def _find(self, key: RequestKey) -> StoredRequest | None:
        now = asyncio.get_running_loop().time()
        client = self.once_clients.get(key[:2])
        found = None if client is None else client.by_ref.get(key.ref)
        return found if found is not None and found.until > now else None

    def _put(self, run: OnceRun, state: ClaimState, reply: bytes = b"") -> None:
        """Store the state of a request, and drop what has expired or is above the bounds."""
        key, now = run.key, asyncio.get_running_loop().time()
        client = self.once_clients.get(key[:2])
        if client is None:
            client = self.once_clients[key[:2]] = ClientRequests()
        else:
            self.once_bytes -= client.memory_bytes
        client.put(key.ref, StoredRequest(run, state, reply, now + run.seconds))
        self.once_bytes += client.memory_bytes
        self.once_clients.move_to_end(key[:2])
        if key.user is not None:
            clients = self.once_users.setdefault(key.user, OrderedDict())
            clients[key.client] = None
            clients.move_to_end(key.client)
            if len(clients) > MAX_CLIENTS:
                self._drop(key.user, next(iter(clients)))
        while self.once_clients:
            oldest = next(iter(self.once_clients))
            has_expired = self.once_clients[oldest].until <= now
            if not has_expired and self.once_bytes <= self.max_once_bytes:
                break
            self._drop(*oldest)

    def _drop(self, user: str | None, client: str) -> None:
        """Forget the requests of a client."""
        self.once_bytes -= self.once_clients.pop((user, client)).memory_bytes
        if user is not None:
            clients = self.once_users[user]
            del clients[client]
            if not clients:
                del self.once_users[user]
