"""The extension by which a server offers a faster inbox and outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .inbox import Event, Inbox, Receive
from .outbox import OnFailure, Outbox, Send

# The key in scope["extensions"] under which a server offers a PushExtension.
PUSH_EXTENSION = "falcon_pachinko.push"
# The key under which a server marks that it bounds heads, bodies and silent connections itself.
HTTP_EXTENSION = "falcon_pachinko.http"
# The key under which the test kit marks a connection without a server.
NO_SERVER_EXTENSION = "falcon_pachinko.no_server"


class PushExtension(Protocol):
    """A server's faster inbox and outbox, offered in ``scope["extensions"]``."""

    @property
    def receive(self) -> Receive:
        """The ``receive`` that the inbox replaces."""
        ...

    @property
    def send(self) -> Send:
        """The ``send`` that the outbox replaces."""
        ...

    @property
    def flood(self) -> float:
        """How much the client has used of its frames lately: 1 is a whole burst."""
        ...

    def make_inbox(self, on_disconnect: Callable[[Event], None]) -> Inbox:
        """Make the inbox; ``on_disconnect`` is called at once if the client has disconnected."""
        ...

    def make_outbox(self, send: Send, on_failure: OnFailure) -> Outbox:
        """Make the outbox; ``send`` is for events such as a close."""
        ...
