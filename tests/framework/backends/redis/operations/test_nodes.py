"""The operations on all nodes: requests, and replies as values."""

import math

from falcon_pachinko.backends.lease import Lease
from falcon_pachinko.backends.redis import operations
from falcon_pachinko.backends.redis.operations import Beat, Counted, MissedCommand, Terms, Tick
from falcon_pachinko.backends.redis.operations.nodes import ROOMS_PER_COST

TERMS = Terms(node="node", lease=900, period=300, grace=200, recovery=200)


def test_the_lists_of_nodes_and_rooms_are_decoded() -> None:
    assert operations.live_nodes().decode([b"a", b"b"]) == ["a", "b"]
    assert operations.rooms_of("node", "0").decode([b"7", [b"caf\xc3\xa9"]]) == ("7", ["café"])
    assert operations.beat(TERMS).decode([3, 2, b"2", [b"n"], b"7 2"]) == Beat(
        3, 2, "2", ["n"], "7 2"
    )
    count = operations.count_user("{%user:alice}", TERMS, 2, 3, 20, [])
    assert count.decode([2, [b"n"]]) == Counted(2, ["n"])


def test_a_long_list_of_rooms_costs_more() -> None:
    rooms = [str(number) for number in range(3 * ROOMS_PER_COST)]
    assert operations.add_rooms("node", rooms[:1]).cost == 1
    assert operations.add_rooms("node", rooms).cost == 4


def test_the_replies_about_a_worker_are_decoded() -> None:
    acquire = operations.acquire("work", "node", 900, is_unheld=True, schedules=[])
    assert acquire.decode([b"7", [b"every hour", b"123"]]) == (7, {"every hour": "123"})
    tick = operations.tick(Lease("work", 7, 0.0), "node", "every hour", 3_600_000, None)
    assert tick.decode([b"1700000000000", 50, 1]) == Tick(1_700_000_000_000, 50, is_taken=True)
    assert tick.decode(None) is None


def test_missed_commands_are_decoded_with_their_age() -> None:
    operation = operations.sync_commands({"5-0": b"known"})
    flat = [b"1000-0", b"first", b"9000-0", b"later than the clock"]
    missed = [MissedCommand("1000-0", b"first", 4.0), MissedCommand("9000-0", flat[3], 0.0)]
    assert operation.decode([flat, 2_500, b"5000"]) == (missed, 2.5)
    assert operation.decode([[], -1, b"5000"]) == ([], math.inf)
