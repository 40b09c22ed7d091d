"""For tests: an application in the process or behind a port, and a client with bounded waits.

    async with run(app) as chat, chat.connect("/ws/chat/general") as alice:
        await alice.send("clientSendMessage", {"text": "Hello!"})
        answer = await alice.receive(ServerNewMessage)

``serve(app)`` in the place of ``run(app)`` does the same over real sockets. With ``check_contract=True``
a client that is told anything that its resource does not declare fails with ``Undeclared``. Fixtures for pytest are
in ``falcon_pachinko.testing.fixtures``. Production imports none of it.
"""

from .client import Client
from .contract import Undeclared, declarations
from .errors import Closed, Refused
from .handshake import connect
from .in_process import run
from .running import Running
from .serving import Served, serve

__all__ = [
    "Client",
    "Closed",
    "Refused",
    "Running",
    "Served",
    "Undeclared",
    "connect",
    "declarations",
    "run",
    "serve",
]
