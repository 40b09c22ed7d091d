"""What joins the processes of an application: ``backend_from_url`` makes it."""

from __future__ import annotations

from ..errors import RegistrationError
from .base import Backend, Timing


def backend_from_url(
    url: str, *, prefix: str = "pachinko", timing: Timing | None = None
) -> Backend:
    """The backend that a URL names.

    Args:
        url: Empty for this process alone. ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``
            and ``redis+cluster://`` as :func:`.engine.make_engine` explains them, for Redis 7.0 or newer, or Valkey.
        prefix: What the names of keys and channels begin with; services that share an engine have each
            its own.
        timing: How patient it is.

    Raises:
        RegistrationError: The URL cannot be used, or the extra ``redis`` is not installed.
    """
    if not url:
        from .memory import MemoryBackend

        return MemoryBackend(timing)
    try:
        from .redis.backend import RedisBackend
    except ModuleNotFoundError as error:
        raise extra_is_missing(error) from None
    return RedisBackend(url, prefix=prefix, timing=timing)


def extra_is_missing(error: ModuleNotFoundError) -> RegistrationError:
    """What to say where redis-py is not installed."""
    return RegistrationError(
        f"{error}: a backend with a URL needs the extra 'redis', as in pip install '.[redis]'"
    )
