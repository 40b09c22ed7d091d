"""Background workers that run as long as the application."""

from .backoff import Backoff
from .controller import WorkerController
from .schedule import every

__all__ = ["Backoff", "WorkerController", "every"]
