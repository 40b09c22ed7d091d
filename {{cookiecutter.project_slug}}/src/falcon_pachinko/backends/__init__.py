"""Backends connect the processes of an application; :func:`backend_from_url` creates one."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigurationError
from .base import Backend
from .timing import Timing


def backend_from_url(
    url: str,
    *,
    prefix: str = "pachinko",
    timing: Timing | None = None,
    history_bytes: int | None = None,
    state_file: Path | None = None,
) -> Backend:
    """Create the backend for a URL.

    Args:
        url: Empty for a single process. ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or
            ``redis+cluster://`` (see ``backends.redis.url``) for Redis 7.0 or newer, or Valkey.
        prefix: Prefix of all keys and channels; services that share a Redis each need their own.
        timing: Timeouts and intervals.
        history_bytes: The maximum size of all histories, in this process or in Redis; ``None`` for the
            backend's default, 64 MiB in this process or 128 MiB in Redis.
        state_file: Without a URL, a JSON file in which bans, mutes and revoked sessions survive a restart; its
            folder exists. With a URL they are in Redis and in the other processes, and there is no file.

    Raises:
        ConfigurationError: The URL or the size cannot be used, or the extra ``redis`` is not installed.
    """
    options: dict[str, int] = {} if history_bytes is None else {"history_bytes": history_bytes}
    if not url:
        from .memory import MemoryBackend

        return MemoryBackend(timing, state_file=state_file, **options)
    try:
        from .redis.backend import RedisBackend
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return RedisBackend(url, prefix=prefix, timing=timing, **options)


def check_backend_url(url: str) -> None:
    """Check that :func:`backend_from_url` can use a URL, without creating a backend or connecting.

    Raises:
        ConfigurationError: The URL cannot be used, or the extra ``redis`` is not installed.
    """
    if not url:
        return
    try:
        from .redis.backend import check_url
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    check_url(url)


def missing_extra(error: ModuleNotFoundError) -> ConfigurationError:
    """Return the error for a missing redis-py."""
    return ConfigurationError(
        f"{error}: a backend with a URL needs the extra 'redis', as in pip install -e '.[redis]'"
    )
