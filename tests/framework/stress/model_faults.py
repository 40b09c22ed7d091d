"""The faults of Redis that the model test injects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..support.redis_servers import RedisServer
from ..support.server_clock import ServerClock
from .schedule import (
    ROOMS,
    ClockJump,
    DeleteKey,
    DeleteRoom,
    DeleteShared,
    EvictRooms,
    FailOver,
    FlushAll,
    Freeze,
    RedisFault,
    Replicate,
    RestartRedis,
    Thaw,
    WrongType,
)


class RedisFaults:
    """Injects faults into a server; the methods run in a thread, so that no node stalls.

    Attributes:
        replica: The keys of the last :class:`Replicate`, each with its remaining milliseconds and its data.

    Args:
        server: The server.
        clock: Its clock; ``None`` if that cannot jump.
        prefix: The prefix of all keys.
    """

    def __init__(self, server: RedisServer, clock: ServerClock | None, prefix: str) -> None:
        self.server = server
        self.clock = clock
        self.prefix = prefix
        self.replica: list[tuple[bytes, int, bytes]] = []
        self.actions: dict[type[RedisFault], Callable[..., None]] = {
            Freeze: lambda fault: server.pause(),
            Thaw: lambda fault: None,
            DeleteKey: lambda fault: self.delete(self.one_key(fault.index)),
            DeleteRoom: lambda fault: self.delete(self.keys(fault.room)),
            DeleteShared: lambda fault: self.delete(self.shared_keys()),
            EvictRooms: lambda fault: self.delete(
                [key for room in ROOMS for key in self.keys(room)]
            ),
            FlushAll: lambda fault: server.command("FLUSHALL"),
            RestartRedis: lambda fault: server.restart(),
            WrongType: lambda fault: self.replace(self.keys(fault.room)),
            ClockJump: lambda fault: self.jump(fault.seconds),
            Replicate: lambda fault: self.replicate(),
            FailOver: lambda fault: self.fail_over(),
        }

    async def inject(self, fault: RedisFault) -> None:
        """Inject a fault; a frozen server continues before another one."""
        self.server.resume()
        await asyncio.to_thread(self.actions[type(fault)], fault)

    def keys(self, room: str) -> list[str]:
        """Return the keys of a room: those with its hash tag."""
        return self.server.keys(f"{self.prefix}:{{{room}}}*")

    def shared_keys(self) -> list[str]:
        """Return the keys that belong to no room."""
        of_rooms = {key for room in ROOMS for key in self.keys(room)}
        return [key for key in self.server.keys(f"{self.prefix}:*") if key not in of_rooms]

    def one_key(self, index: int) -> list[str]:
        """Return the key with an index, modulo the number of keys."""
        keys = self.server.keys(f"{self.prefix}:*")
        return keys and [keys[index % len(keys)]]

    def delete(self, keys: list[str]) -> None:
        """Delete keys."""
        if keys:
            self.server.command("DEL", *keys)

    def replace(self, keys: list[str]) -> None:
        """Replace each key by a text."""
        for key in keys:
            self.server.command("SET", key, "of a wrong type")

    def jump(self, seconds: float) -> None:
        """Let the clock jump."""
        assert self.clock is not None, "the clock of this server cannot jump: install libfaketime"
        self.clock.jump(seconds)

    def connect(self) -> redis.Redis:
        """Create a client that does not decode replies."""
        return redis.Redis(port=self.server.port, retry=Retry(NoBackoff(), 0))

    def replicate(self) -> None:
        """Copy all keys."""
        with self.connect() as client:
            self.replica = []
            for key in client.scan_iter(f"{self.prefix}:*"):
                data = client.dump(key)
                if data is not None:
                    self.replica.append((key, max(0, client.pttl(key)), data))

    def fail_over(self) -> None:
        """Restart the server with the copied keys."""
        self.server.restart()
        with self.connect() as client:
            for key, milliseconds, data in self.replica:
                client.restore(key, milliseconds, data)
