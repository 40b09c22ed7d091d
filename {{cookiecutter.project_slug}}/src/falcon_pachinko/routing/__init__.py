"""Routes: what Falcon's router calls for a WebSocket connection."""

from .route import origin_is_allowed

__all__ = ["origin_is_allowed"]
