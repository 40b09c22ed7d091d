"""The confirmations of channels: in the order of the commands, and at the loss of a connection."""

import pytest

from falcon_pachinko.backends.redis.confirmations import Confirmations


async def test_subscriptions_of_a_channel_are_confirmed_in_order() -> None:
    confirmations = Confirmations()
    first, second = confirmations.expect("ä"), confirmations.expect("ä")
    other = confirmations.expect("other")
    confirmations.confirm("ä".encode())
    assert first.done()
    assert not second.done()
    second.cancel()
    confirmations.confirm("ä".encode())
    assert not other.done()
    confirmations.confirm(b"other")
    assert other.done()
    assert confirmations.subscribing == {}
    confirmations.confirm(b"of nobody")


def test_an_end_that_nobody_expects_is_an_error_of_the_connection() -> None:
    confirmations, ended = Confirmations(), list[str]()
    confirmations.expect_end("room", lambda: ended.append("first"))
    confirmations.expect_end("room", lambda: ended.append("second"))
    confirmations.confirm_end(b"room")
    assert ended == ["first"]
    confirmations.confirm_end(b"room")
    assert ended == ["first", "second"]
    with pytest.raises(ConnectionError, match="has moved to another server"):
        confirmations.confirm_end(b"room")
    assert confirmations.unsubscribing == {}


async def test_a_lost_connection_fails_what_is_not_confirmed() -> None:
    confirmations, ended = Confirmations(), list[str]()
    confirmed, cancelled, failing = (confirmations.expect("room") for _ in range(3))
    confirmations.confirm(b"room")
    cancelled.cancel()
    confirmations.expect_end("room", lambda: ended.append("room"))
    confirmations.fail_all()
    assert confirmed.result() is None
    with pytest.raises(ConnectionError, match="connection to Redis was lost"):
        await failing
    assert ended == []
    assert confirmations.subscribing == confirmations.unsubscribing == {}
