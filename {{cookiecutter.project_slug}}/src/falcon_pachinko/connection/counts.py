"""How much a client has sent and has been sent: plain integers, for the log line at its end."""

from __future__ import annotations


class Received:
    """Counts what an inbox has received.

    Attributes:
        received: The number of messages from the client.
        received_bytes: Their size, without the headers of frames; 0 if the outbox does not measure it.
    """

    __slots__ = ("received", "received_bytes")

    def __init__(self) -> None:
        self.received = self.received_bytes = 0


class Sent:
    """Counts what has been written to an outbox.

    Attributes:
        sent: The number of messages; negative while others are counted for their rooms (:mod:`..rooms.traffic`).
        sent_bytes: Their size, without the headers of frames.
        counts_groups: Whether messages that are written to a group of outboxes are among them.
        measures_bytes: Whether sizes are counted, here and in the inbox.
    """

    __slots__ = ("sent", "sent_bytes")

    counts_groups = False
    measures_bytes = True

    def __init__(self) -> None:
        self.sent = self.sent_bytes = 0
