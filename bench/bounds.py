"""The bounds of our servers, above those of a service: a load client connects from one address."""

from typing import TypedDict


class ServerBounds(TypedDict):
    """Arguments of the framework's ``ServerLimits``."""

    connections: int
    connections_per_address: int
    handshakes_per_second: float
    handshake_burst: int


SERVER_BOUNDS: ServerBounds = {
    "connections": 100_000,
    "connections_per_address": 100_000,
    "handshakes_per_second": 1_000_000.0,
    "handshake_burst": 1_000_000,
}


def describe_bounds() -> str:
    """Return the bounds as a line of text."""
    return ", ".join(f"{name}={value:,.0f}" for name, value in SERVER_BOUNDS.items())
