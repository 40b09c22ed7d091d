"""Publish to rooms and users from a script, a cron job or a WSGI process."""

from .rooms.publisher import AsyncPublisher, Publisher

__all__ = ["AsyncPublisher", "Publisher"]
