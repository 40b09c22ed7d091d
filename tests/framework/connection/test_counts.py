"""The counts of a client begin at zero."""

from falcon_pachinko.connection.counts import Received, Sent


def test_counts_begin_at_zero() -> None:
    received, sent = Received(), Sent()
    assert (received.received, received.received_bytes) == (0, 0)
    assert (sent.sent, sent.sent_bytes) == (0, 0)
