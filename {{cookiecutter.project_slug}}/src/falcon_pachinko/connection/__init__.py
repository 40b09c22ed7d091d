"""One WebSocket connection: its state, its ordered input and output, its bounds."""

from .connection import Connection

__all__ = ["Connection"]
