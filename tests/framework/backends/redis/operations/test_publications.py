"""The operations on the messages of a room: requests, and replies as values."""

import pytest

from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.errors import LeaseLost
from falcon_pachinko.history import Position


def test_the_position_of_a_publication_is_decoded() -> None:
    operation = operations.publish("{room}", b"\nhello", ephemeral=False)
    assert operation.tag == "{room}"
    assert not operation.needs_lease
    assert operation.decode(b"epoch:7") == Position("epoch", 7)
    assert operations.publish("{room}", b"\nhello", ephemeral=True, node="node").needs_lease


def test_a_worker_that_was_replaced_loses_its_lease() -> None:
    lease = Lease("worker", 7, 0.0)
    operation = operations.publish("{room}", b"\nhello", ephemeral=False, lease=lease)
    assert operation.request[5:7] == ("worker", 7)
    assert operation.decode(b"epoch:7") == Position("epoch", 7)
    with pytest.raises(LeaseLost, match="another worker"):
        operation.decode(b"replaced")


def test_the_offset_of_a_client_is_bounded() -> None:
    operation = operations.past("{room}", Position("epoch", 10**30), 5)
    assert operation.request[2:] == ("epoch", 2**53, 5)
    for retracted, expected in ((f"e:{10**30}", None), ("e:7", [("e", 7)])):
        publish = operations.publish("{room}", b"\nhello", ephemeral=False, retracts=[retracted])
        assert publish.request[8:9] == ((expected,) if expected else ())
