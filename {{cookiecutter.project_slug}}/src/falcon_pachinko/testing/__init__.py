"""The test kit: run an application in-process or on a port, and connect clients with bounded waits.

    async with run(app) as chat, chat.connect("/ws/chat/general") as alice:
        await alice.send("clientSendMessage", {"text": "Hello!"})
        answer = await alice.receive(ServerNewMessage)

``serve(app)`` instead of ``run(app)`` uses real sockets. With ``check_contract=True`` a client that
receives a message that its resource does not declare fails with ``Undeclared``. The pytest fixtures
are in ``falcon_pachinko.testing.fixtures``. Production code does not import this package.
"""

from .client import Client
from .contract import Undeclared, declarations
from .errors import Closed, Refused
from .handshake import connect
from .in_process import run
from .rooms import JoinRefused
from .running import Running
from .serving import Served, serve

__all__ = [
    "Client",
    "Closed",
    "JoinRefused",
    "Refused",
    "Running",
    "Served",
    "Undeclared",
    "connect",
    "declarations",
    "run",
    "serve",
]
