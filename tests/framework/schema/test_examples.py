"""Examples match their types."""

import dataclasses
import datetime
import decimal
import enum
import gc
import uuid
import weakref
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from falcon_pachinko.schema.examples import example_of


class Size(enum.IntEnum):
    SMALL = 1


class Point(NamedTuple):
    x: int
    y: float


class Person(TypedDict):
    name: str


@dataclasses.dataclass
class Box:
    size: Size
    label: str = ""


class Row(msgspec.Struct, array_like=True, tag="row"):
    number: int


class Chain(msgspec.Struct):
    following: "Chain | None"
    side: list["Chain"]


class Given(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(examples=["hello"])]
    unneeded: int = 1
    shown: Annotated[int, msgspec.Meta(examples=[7])] = 1


META = msgspec.Meta


@pytest.mark.parametrize(
    ("payload_type", "example"),
    [
        (str, "text"),
        (Annotated[str, META(min_length=6)], "text.."),
        (Annotated[str, META(max_length=2)], "te"),
        (int, 1),
        (Annotated[int, META(ge=5, le=9)], 5),
        (Annotated[int, META(gt=5, multiple_of=4)], 8),
        (Annotated[int, META(le=-3)], -3),
        (Annotated[int, META(lt=-3)], -4),
        (Annotated[float, META(gt=0, lt=0.5)], 0.25),
        (bool, True),
        (None, None),
        (int | None, 1),
        (bytes, "Ynl0ZXM="),
        (datetime.datetime, "2026-01-31T12:00:00Z"),
        (datetime.date, "2026-01-31"),
        (datetime.time, "12:00:00"),
        (datetime.timedelta, "PT3600S"),
        (uuid.UUID, "2f1a7b1e-6c52-4f0e-9d3b-5b1f0c6f7a10"),
        (decimal.Decimal, "1"),
        (list[int], [1]),
        (Annotated[list[int], META(min_length=3)], [1, 1, 1]),
        (set[str], ["text"]),
        (tuple[int, ...], [1]),
        (tuple[int, str], [1, "text"]),
        (dict[str, int], {}),
        (Any, {}),
        (msgspec.Raw, {}),
        (Size, 1),
        (Point, [1, 1]),
        (Person, {"name": "text"}),
        (Box, {"size": 1}),
        (Row, ["row", 1]),
        (Chain, {"following": None, "side": []}),
        (Given, {"text": "hello", "shown": 7}),
    ],
    ids=str,
)
def test_an_example_is_a_default_value_within_the_bounds(payload_type: Any, example: Any) -> None:
    assert example_of(payload_type) == example


@pytest.mark.parametrize(
    "payload_type",
    [
        Annotated[str, META(pattern="^[0-9]+$")],
        Annotated[str, META(max_length=3, examples=["too long"])],
        Annotated[dict[str, int], META(min_length=1)],
    ],
    ids=str,
)
def test_an_example_that_does_not_match_is_refused(payload_type: Any) -> None:
    with pytest.raises(ValueError, match="does not match: Expected"):
        example_of(payload_type)


def test_a_changed_example_does_not_change_the_next_one() -> None:
    example_of(Given)["text"] = "changed"
    example_of(Row).append("changed")
    assert example_of(Given) == {"text": "hello", "shown": 7}
    assert example_of(Row) == ["row", 1]


def test_classes_of_the_same_name_have_their_own_examples() -> None:
    kinds = [int, str, int]
    same = [msgspec.defstruct("Same", [("x", kind)], module="tests") for kind in kinds]
    assert [example_of(each) for each in same] == [{"x": 1}, {"x": "text"}, {"x": 1}]


def test_an_example_is_forgotten_with_its_class() -> None:
    struct = msgspec.defstruct("Temporary", [("x", int)], module="tests")
    assert example_of(struct) == {"x": 1}
    forgotten = weakref.ref(struct)
    del struct
    gc.collect()
    assert forgotten() is None
