"""The operations of a channel: requests by their replies."""

from typing import Any

import pytest

from falcon_pachinko import (
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
)
from falcon_pachinko.handlers import HandlerTable
from falcon_pachinko.messages import ServerError, ServerJoined, ServerLeft, ServerPong
from falcon_pachinko.schema.operations import all_replies, operations_of, unique_name


class ServerRolled(Message, frozen=True):
    value: int


class Dice(WebSocketResource):
    @handles_message("roll")
    async def roll(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerRolled:
        return ServerRolled(value=4)


class Table(Dice):
    @handles_message("sit")
    async def sit(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("stand")
    async def stand(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("rollOrSit")
    async def roll_or_sit(
        self, ws: WebSocketLike, payload: dict[str, Any]
    ) -> ServerRolled | None: ...

    @handles_binary
    async def upload(self, ws: WebSocketLike, data: bytes) -> None: ...


def replies_by_operation(owner: type[WebSocketResource], receive: list[str]) -> dict[str, Any]:
    """Return the requests and the replies of each operation."""
    handlers = HandlerTable.of(owner)
    sent = [str(each.__struct_config__.tag) for each in all_replies(handlers)]
    operations = operations_of(
        "table",
        handlers,
        receive={each: f"table.{each}" for each in receive},
        send={each: each for each in sent},
    )
    return {
        name: tuple(
            [each["$ref"].rpartition("/")[2] for each in part.get("messages", ())]
            for part in (operation, operation.get("reply", {}))
        )
        for name, operation in operations.items()
        if operation["action"] == "receive"
    }


def test_requests_with_the_most_frequent_replies_share_an_operation() -> None:
    requests = ["roll", "sit", "stand", "rollOrSit", "clientBinary", "clientPing"]
    assert replies_by_operation(Table, requests) == {
        "receiveTable": (["table.sit", "table.stand"], ["serverAck", "serverError"]),
        "receiveTableRoll": (["table.roll"], ["serverRolled", "serverError"]),
        "receiveTableRollOrSit": (
            ["table.rollOrSit"],
            ["serverRolled", "serverAck", "serverError"],
        ),
        "receiveTableClientBinary": (["table.clientBinary"], []),
        "receiveTableClientPing": (["table.clientPing"], ["serverPong", "serverError"]),
    }


def test_all_replies_are_those_of_the_handlers_and_of_the_framework() -> None:
    built_in = {ServerError, ServerPong, ServerJoined, ServerLeft}
    assert all_replies(HandlerTable.of(Dice)) == {ServerRolled, *built_in}


def test_an_operation_gets_a_free_name() -> None:
    handlers = HandlerTable.of(Dice)
    keys = {"roll": "roll", "clientPing": "clientPing"}
    sent = {each: each for each in ("serverRolled", "serverError", "serverPong")}
    operations = operations_of(
        "table", handlers, receive=keys, send=sent, taken=["receiveTable", "sendTable"]
    )
    assert list(operations) == ["receiveTable2", "receiveTableClientPing", "sendTable2"]


@pytest.mark.parametrize(
    ("taken", "name"), [((), "a"), (("a",), "a2"), (("a", "a2"), "a3"), (("a2",), "a")]
)
def test_a_name_that_is_taken_gets_a_number(taken: tuple[str, ...], name: str) -> None:
    assert unique_name("a", taken) == name
