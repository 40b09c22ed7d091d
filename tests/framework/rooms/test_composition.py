"""Without metrics the objects on the way of a message are the plain ones."""

from falcon_pachinko.rooms.composition import Composition
from falcon_pachinko.rooms.fanout import FanOut


def test_nothing_is_added() -> None:
    composition, table = Composition(), object()
    assert composition.compose(table) is table
    assert type(composition.make_fanout(())) is FanOut
