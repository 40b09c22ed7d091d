"""Speaking to rooms and users from outside the servers: from a script, a cron job or a WSGI process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from ..backends import extra_is_missing
from ..backends.base import ANSWER_SECONDS
from ..backends.redis.script import NODES, raw, rooms_with_prefix, tag_of
from ..errors import BackendUnavailable, RegistrationError, failure_reason
from ..publication import Publication

T = TypeVar("T")


class AsyncPublisher:
    """Says things to the clients of all servers that share an engine; for ``async with``.

    It is no server: it hears nothing, and nobody waits for it when it is gone. What it says has its place in
    the order and the history of a room like anything else.

    Args:
        url: The servers' backend URL.
        prefix: The servers' prefix.
        answer_seconds: How long the engine may take to answer.

    Raises:
        RegistrationError: The URL names no engine, or the extra ``redis`` is not installed.
    """

    usage = "async with AsyncPublisher(url)"

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "pachinko",
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        if not url:
            raise RegistrationError(
                "a publisher needs the backend's URL, such as redis://127.0.0.1:6379/0: without one the"
                " rooms are inside the server's process, and nobody outside can reach them"
            )
        try:
            from ..backends.redis.client import FAILURES, make_engine
            from ..backends.redis.pipeline import Calls
        except ModuleNotFoundError as error:
            raise extra_is_missing(error) from None
        self.failures = FAILURES
        self.engine = make_engine(url, prefix, answer_seconds)
        self.calls = Calls(self.engine, lambda reason: None)
        self.calling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Find the engine.

        Raises:
            BackendUnavailable: It does not answer.
        """
        try:
            async with asyncio.timeout(self.engine.answer_seconds):
                await self.engine.look_around()
            self.calling = asyncio.create_task(self.calls.run())
            await self.call("living", NODES)
        except BaseException as error:
            await self.close()
            if isinstance(error, self.failures):
                raise BackendUnavailable(failure_reason(error)) from None
            raise
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the engine."""
        await self.close()

    async def close(self) -> None:
        """Let go of the engine."""
        if self.calling is not None:
            self.calling.cancel()
            await asyncio.wait({self.calling})
        await self.engine.close()

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        *,
        exclude_users: Collection[str] = (),
        ephemeral: bool = False,
    ) -> None:
        """Send a message to all members of a room; see ``WebSocketConnectionManager.broadcast_to_room``.

        Raises:
            BackendUnavailable: The engine is away; it may not have arrived.
            TypeError: The message holds something that JSON cannot.
        """
        await self.publish(room, Publication.to_room(message, (), exclude_users), ephemeral)

    async def broadcast_to_all(self, message: object) -> None:
        """Send a message to all connections, at most once; otherwise like :meth:`broadcast_to_room`."""
        await self.call("say", f"{NODES}:all", raw(Publication.to_room(message).encode()))

    async def send_to_user(self, user: str, message: object) -> None:
        """Send a message to all connections of a user, at most once; otherwise the same."""
        entry = Publication.direct(message, user=user)
        await self.call("say", f"{NODES}:all", raw(entry.encode()))

    async def disconnect_user(self, user: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections of a user.

        Raises:
            BackendUnavailable: The engine is away; they may still be open.
            ValueError: The code is not one that an endpoint may send.
        """
        entry = Publication.close(code, reason, user=user)
        await self.call("say", f"{NODES}:all", raw(entry.encode()))

    async def close_room(self, room: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections that are in a room; otherwise like :meth:`disconnect_user`."""
        await self.publish(room, Publication.close(code, reason), ephemeral=True)

    async def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """The names of all rooms that begin with the prefix and have somebody in them, sorted.

        Raises:
            BackendUnavailable: The engine is away.
        """
        return await rooms_with_prefix(self.call, prefix)

    async def publish(self, room: str, entry: Publication, ephemeral: bool) -> None:
        """Say something to a room."""
        await self.call("publish", tag_of(room), raw(entry.encode()), ephemeral, None, None)

    def call(self, *operation: Any) -> asyncio.Future[Any]:
        """Let the engine do something; what is asked for in one turn shares a round trip.

        Raises:
            BackendUnavailable: It may have done it or not.
            RuntimeError: It is used outside ``with``.
        """
        if self.calling is None or self.calling.done():
            raise RuntimeError(
                f"this publisher is not open: use it inside '{self.usage} as publisher:'"
            )
        return self.calls.post(operation)


class Publisher:
    """An :class:`AsyncPublisher` for programs without an event loop; for ``with``, in one thread.

    Its methods are the same without ``await``.

    Args:
        url: The servers' backend URL.
        prefix: The servers' prefix.
        answer_seconds: How long the engine may take to answer.

    Raises:
        RegistrationError: The URL names no engine, or the extra ``redis`` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "pachinko",
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.publisher = AsyncPublisher(url, prefix=prefix, answer_seconds=answer_seconds)
        self.publisher.usage = "with Publisher(url)"
        self.runner = asyncio.Runner()

    def __enter__(self) -> Self:
        """Find the engine.

        Raises:
            BackendUnavailable: It does not answer.
            RuntimeError: An event loop is running here: use :class:`AsyncPublisher`.
        """
        try:
            self.run(self.publisher.__aenter__())
        except BaseException:
            self.runner.close()
            raise
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the engine."""
        try:
            self.run(self.publisher.__aexit__(error_class, error, traceback))
        finally:
            self.runner.close()

    def broadcast_to_room(
        self,
        room: str,
        message: object,
        *,
        exclude_users: Collection[str] = (),
        ephemeral: bool = False,
    ) -> None:
        """See :meth:`AsyncPublisher.broadcast_to_room`."""
        self.run(
            self.publisher.broadcast_to_room(
                room, message, exclude_users=exclude_users, ephemeral=ephemeral
            )
        )

    def broadcast_to_all(self, message: object) -> None:
        """See :meth:`AsyncPublisher.broadcast_to_all`."""
        self.run(self.publisher.broadcast_to_all(message))

    def send_to_user(self, user: str, message: object) -> None:
        """See :meth:`AsyncPublisher.send_to_user`."""
        self.run(self.publisher.send_to_user(user, message))

    def disconnect_user(self, user: str, code: int = 1000, reason: str = "") -> None:
        """See :meth:`AsyncPublisher.disconnect_user`."""
        self.run(self.publisher.disconnect_user(user, code, reason))

    def close_room(self, room: str, code: int = 1000, reason: str = "") -> None:
        """See :meth:`AsyncPublisher.close_room`."""
        self.run(self.publisher.close_room(room, code, reason))

    def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """See :meth:`AsyncPublisher.get_rooms_by_prefix`."""
        return self.run(self.publisher.get_rooms_by_prefix(prefix))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something to its end.

        Raises:
            RuntimeError: An event loop is running here.
        """
        try:
            return self.runner.run(coroutine)
        except BaseException:
            coroutine.close()
            raise
