"""Publishing to rooms and users from other programs: a script, a cron job or a WSGI process."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..backends import missing_extra
from ..backends.restriction_entry import Restriction
from ..backends.timing import ANSWER_SECONDS
from ..errors import ConfigurationError
from ..history import Position
from ..publication import Publication
from .moderation import DEFAULT_SECONDS, Moderation

if TYPE_CHECKING:
    from ..backends.redis.backend import RedisPublisher

T = TypeVar("T")


class AsyncPublisher(Moderation):
    """Publishes to the clients of all servers that share a Redis or Valkey; for ``async with``.

    It receives nothing, and no server depends on it. Its messages have a position in the order and the
    history of a room like any others.

    Args:
        url: The servers' backend URL.
        prefix: The servers' prefix.
        answer_seconds: The time Redis may take to respond.

    Raises:
        ConfigurationError: The URL cannot be used, or the extra ``redis`` is not installed.
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
            raise ConfigurationError(
                "a publisher needs the backend's URL, such as redis://127.0.0.1:6379/0: without one, the"
                " rooms exist only inside the server's process"
            )
        try:
            from ..backends.redis.backend import RedisPublisher
        except ModuleNotFoundError as error:
            raise missing_extra(error) from None
        self.publisher = RedisPublisher(url, prefix, answer_seconds)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BackendUnavailable: Redis does not respond.
        """
        await self.publisher.start()
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect, within ``answer_seconds``."""
        await self.publisher.aclose()

    async def broadcast_to_room(
        self,
        room: str,
        message: object,
        *,
        exclude_users: Collection[str] = (),
        ephemeral: bool = False,
    ) -> Position | None:
        """Send a message to all members of a room; see ``WebSocketConnectionManager.broadcast_to_room``.

        Raises:
            BackendUnavailable: Redis is unavailable; the message may not have arrived.
            TypeError: JSON cannot represent the message.
        """
        publication = Publication.to_room(message, (), exclude_users)
        position = await self.opened().publish(room, publication, ephemeral=ephemeral)
        return None if ephemeral else position

    async def broadcast_to_all(self, message: object) -> None:
        """Send a message to all connections, at most once; otherwise like :meth:`broadcast_to_room`."""
        await self.opened().publish_to_nodes(Publication.to_room(message))

    async def send_to_user(self, user: str, message: object) -> None:
        """Send a message to all connections of a user; otherwise like :meth:`broadcast_to_all`."""
        await self.opened().publish_to_nodes(Publication.direct(message, user=user))

    async def disconnect_user(self, user: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections of a user.

        Raises:
            BackendUnavailable: Redis is unavailable, or a node does not respond; connections may still be open.
            ValueError: An endpoint may not send the code.
        """
        await self.opened().command(Publication.close(code, reason, user=user))

    async def close_room(self, room: str, code: int = 1000, reason: str = "") -> None:
        """Close all connections in a room; otherwise like :meth:`disconnect_user`."""
        await self.opened().command(Publication.close(code, reason), room)

    async def restrictions(self) -> list[Restriction]:
        """Return the bans and mutes in force, as Redis has them, sorted by user.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        return await self.opened().list_restrictions()

    async def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """Return the sorted names of the non-empty rooms that start with a prefix.

        Raises:
            BackendUnavailable: Redis is unavailable.
        """
        return await self.opened().rooms(prefix)

    def _restriction_store(self) -> RedisPublisher:
        return self.opened()

    def opened(self) -> RedisPublisher:
        """Return the publisher of the backend.

        Raises:
            RuntimeError: It is not open.
        """
        if not self.publisher.is_open:
            raise RuntimeError(
                f"this publisher is not open: use it inside '{self.usage} as publisher:'"
            )
        return self.publisher


class Publisher:
    """An :class:`AsyncPublisher` for programs without an event loop; for ``with``, in one thread.

    Its methods are the same without ``await``.

    Args:
        url: The servers' backend URL.
        prefix: The servers' prefix.
        answer_seconds: The time Redis may take to respond.

    Raises:
        ConfigurationError: The URL cannot be used, or the extra ``redis`` is not installed.
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
        """Connect.

        Raises:
            BackendUnavailable: Redis does not respond.
            RuntimeError: An event loop is running in this thread: use :class:`AsyncPublisher`.
        """
        check_no_event_loop()
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
        """Disconnect, within ``answer_seconds``."""
        check_no_event_loop()
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
    ) -> Position | None:
        """See :meth:`AsyncPublisher.broadcast_to_room`."""
        return self.run(
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

    def ban(
        self, user_id: str, room: str | None = None, *, seconds: float = DEFAULT_SECONDS
    ) -> None:
        """See :meth:`.moderation.Moderation.ban`."""
        self.run(self.publisher.ban(user_id, room, seconds=seconds))

    def unban(self, user_id: str, room: str | None = None) -> None:
        """See :meth:`.moderation.Moderation.unban`."""
        self.run(self.publisher.unban(user_id, room))

    def mute(
        self, user_id: str, room: str | None = None, *, seconds: float = DEFAULT_SECONDS
    ) -> None:
        """See :meth:`.moderation.Moderation.mute`."""
        self.run(self.publisher.mute(user_id, room, seconds=seconds))

    def unmute(self, user_id: str, room: str | None = None) -> None:
        """See :meth:`.moderation.Moderation.unmute`."""
        self.run(self.publisher.unmute(user_id, room))

    def restrictions(self) -> list[Restriction]:
        """See :meth:`AsyncPublisher.restrictions`."""
        return self.run(self.publisher.restrictions())

    def get_rooms_by_prefix(self, prefix: str) -> list[str]:
        """See :meth:`AsyncPublisher.get_rooms_by_prefix`."""
        return self.run(self.publisher.get_rooms_by_prefix(prefix))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end.

        Raises:
            RuntimeError: An event loop is running in this thread.
        """
        try:
            check_no_event_loop()
            return self.runner.run(coroutine)
        except BaseException:
            coroutine.close()
            raise


def check_no_event_loop() -> None:
    """Raise RuntimeError if an event loop is running in this thread: it would be blocked."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop is running in this thread, and Publisher would block it: use"
        " 'async with AsyncPublisher(url) as publisher:'"
    )
