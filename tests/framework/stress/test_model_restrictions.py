"""The model's check of bans: the outcomes that are possible after calls that returned, raised or overlapped."""

import math

import pytest

from .model import Record
from .model_cluster import TIMING
from .model_restrictions import BanCall, ModelRestrictions


def acknowledged(is_banned: bool, called: float, ended: float, killed: int = 0) -> BanCall:
    return BanCall("ann", is_banned, called, ended, is_acknowledged=True, killed=killed)


@pytest.mark.parametrize(
    ("calls", "possible"),
    [
        ([], {False}),
        ([acknowledged(True, 1, 2)], {True}),
        ([acknowledged(True, 1, 2), acknowledged(False, 3, 4)], {False}),
        ([acknowledged(True, 1, 4), acknowledged(False, 3, 5)], {True, False}),
        ([acknowledged(True, 1, 2), BanCall("ann", False, 3, 4)], {True, False}),
        ([BanCall("ann", True, 1, 2), acknowledged(False, 3, 4)], {False}),
        ([BanCall("ann", True, 1, math.inf), acknowledged(False, 3, 4)], {True, False}),
        ([BanCall("ann", True, 1, 2)], {True, False}),
        ([acknowledged(True, 1, 2), BanCall("bob", False, 3, 4)], {True}),
        ([acknowledged(True, 1, 2, killed=-1)], {True, False}),
    ],
)
def test_the_possible_outcomes(calls: list[BanCall], possible: set[bool]) -> None:
    model = ModelRestrictions(Record(TIMING))
    model.calls = calls
    assert model.possible_outcomes("ann") == possible
