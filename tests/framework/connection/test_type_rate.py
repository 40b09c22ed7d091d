"""The rate of one message type; its effect on connections is tested with the life cycle."""

from typing import Any

import msgspec
import pytest

from falcon_pachinko import RegistrationError, WebSocketLike, WebSocketResource, handles_message
from falcon_pachinko.connection.type_rate import TypeRate
from falcon_pachinko.handlers import HandlerTable


class Say(msgspec.Struct):
    text: str


@pytest.mark.parametrize(
    "rate",
    [
        {"per_second": 0},
        {"per_second": -1},
        {"per_second": float("nan")},
        {"per_second": float("inf")},
        {"per_second": "5"},
        {"per_second": True},
        {"per_second": 5, "burst": 0},
        {"per_second": 5, "burst": 0.5},
        {"per_second": 5, "burst": float("inf")},
        {"burst": 5},
    ],
    ids=str,
)
def test_rate_of_a_type_is_checked_when_the_handler_is_marked(rate: Any) -> None:
    with pytest.raises(RegistrationError, match=r"handles_message\((per_second|burst)="):
        handles_message("say", **rate)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ({"per_second": 5, "burst": 10}, (5, 10)),
        ({"per_second": 2.5}, (2.5, 3)),
        ({"per_second": 0.1}, (0.1, 1)),
    ],
    ids=str,
)
def test_burst_of_a_type_is_one_second_by_default(rate: Any, expected: Any) -> None:
    class Bounded(WebSocketResource):
        @handles_message("free")
        @handles_message("say", **rate)
        async def say(self, ws: WebSocketLike, payload: Say) -> None: ...

    table = HandlerTable(Bounded)
    assert table.rates == {"say": TypeRate(*expected)}
    assert table.by_type == {"free": Bounded.say, "say": Bounded.say}
    assert [each.handler for each in table.entries.values()].count(
        Bounded.say
    ) == 1  # only the other one is wrapped
