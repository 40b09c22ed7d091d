"""For tests: a real server on a free port, and a client with bounded waits. Production imports none of it."""

from .client import Client, connect
from .serving import Served, serve

__all__ = ["Client", "Served", "connect", "serve"]
