"""Background workers that run as long as the application."""

from .backoff import Backoff
from .controller import WorkerController

__all__ = ["Backoff", "WorkerController"]
