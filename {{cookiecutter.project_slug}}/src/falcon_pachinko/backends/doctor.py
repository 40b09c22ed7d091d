"""The checks of a deployment's backend, for operators."""

from __future__ import annotations

from .finding import Finding, Outcome
from .timing import ANSWER_SECONDS

__all__ = ["Finding", "Outcome", "diagnose"]


async def diagnose(
    url: str, *, prefix: str = "pachinko", answer_seconds: float = ANSWER_SECONDS
) -> list[Finding]:
    """Check the servers of a backend: reachability, versions, rights, memory, clock, latency, nodes, keys.

    It takes a few seconds, writes only keys of its own that it deletes, and changes nothing for the nodes.

    Args:
        url: The URL of :func:`~falcon_pachinko.backends.backend_from_url`; empty for one process.
        prefix: The nodes' prefix.
        answer_seconds: The time that a server may take to respond to a check.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    if not url:
        return [Finding(Outcome.OK, "Redis", "one process needs none")]
    try:
        from .redis.doctor import diagnose_redis
    except ModuleNotFoundError as error:
        return [
            Finding(
                Outcome.FAILURE, "redis-py", str(error), "install the extra 'redis' of the project"
            )
        ]
    return await diagnose_redis(url, prefix, answer_seconds)
