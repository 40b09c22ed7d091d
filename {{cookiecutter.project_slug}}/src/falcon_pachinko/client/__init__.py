"""A client for services of this framework, which reconnects by itself and recovers missed messages.

    async with connect("ws://127.0.0.1:8000/ws/chat/general", receives=SERVER_MESSAGES) as client:
        await client.request("clientSendMessage", {"text": "Hello"})
        async for message in client:
            print(message)

It follows the same rules as ``web/realtime.js``; the page ``docs/protocol.md`` describes them.
"""

from ..errors import ClientClosed, ClientError, RequestFailed
from .client import Client, Room, connect
from .envelope import Envelope
from .options import Options
from .status import State, Status

__all__ = [
    "Client",
    "ClientClosed",
    "ClientError",
    "Envelope",
    "Options",
    "RequestFailed",
    "Room",
    "State",
    "Status",
    "connect",
]
