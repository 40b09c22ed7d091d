"""A resource's declared messages and close codes are checked at registration."""

import math
from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    History,
    Limits,
    Message,
    PresenceBatch,
    RegistrationError,
    RouteConfig,
    ServerError,
    WebSocketResource,
    install,
)
from falcon_pachinko.contract import Contract
from falcon_pachinko.messages import (
    ServerPong,
    ServerPosition,
    ServerSessionExpiring,
    ServerSessionRefreshed,
)


class Said(Message, frozen=True):
    text: str


class SaidToo(Message, tag="said", frozen=True):
    text: str


class Row(Message, array_like=True, frozen=True):
    text: str


def resource_with(**attributes: Any) -> type[WebSocketResource]:
    return type("Room", (WebSocketResource,), attributes)


FRAMEWORK_MESSAGES = {
    "serverSessionExpiring": ServerSessionExpiring,
    "serverError": ServerError,
    "serverPong": ServerPong,
}
FRAMEWORK_CODES = [1009, 1011, 1012, 1013, 4008, 4029, 4400, 4401, 4403, 4429]


def contract_of(resource_class: type[WebSocketResource]) -> Contract:
    return Contract.of(resource_class, RouteConfig().for_class(resource_class))


async def authenticate(token: str) -> None: ...


def test_a_route_that_refreshes_sessions_has_their_messages() -> None:
    config = RouteConfig(authenticate=authenticate)
    contract = Contract.of(resource_with(), config)
    assert contract.sends == {
        "serverSessionRefreshed": ServerSessionRefreshed,
        **FRAMEWORK_MESSAGES,
    }
    assert list(contract.handlers.by_type) == ["clientRefreshSession"]
    assert list(contract_of(resource_with()).handlers.by_type) == []


def test_every_contract_includes_framework_messages_and_codes() -> None:
    contract = contract_of(resource_with(limits=Limits(max_message_bytes=5)))
    assert contract.sends == FRAMEWORK_MESSAGES
    assert not contract.sends_binary
    assert contract.closes[1009] == "a message is larger than 5 bytes"
    assert contract.closes.keys() == {*FRAMEWORK_CODES}


def test_a_route_with_batches_or_a_history_sends_the_messages_of_the_framework() -> None:
    config = RouteConfig(presence_batch=PresenceBatch(), history=History())
    contract = Contract.of(resource_with(sends=[Said]), config)
    assert list(contract.sends) == [
        "said",
        "serverPresenceChanged",
        "serverPosition",
        "serverSessionExpiring",
        "serverError",
        "serverPong",
    ]
    assert contract.has_positions


def test_resource_adds_messages_and_codes() -> None:
    contract = contract_of(
        resource_with(sends=(Said, bytes, Said), closes={4001: "over", 1012: "later"})
    )
    assert contract.sends == {"said": Said, **FRAMEWORK_MESSAGES}
    assert contract.sends_binary
    assert list(contract.closes) == sorted([*FRAMEWORK_CODES, 4001])
    assert contract.closes[1012] == "later"


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"sends": Said}, r"Room\.sends is .*write sends = \(FirstMessage, \.\.\.\)"),
        ({"sends": ("said",)}, r"Room\.sends has 'said': list classes derived from Message"),
        ({"sends": (dict,)}, r"Room\.sends has <class 'dict'>"),
        ({"sends": (Message,)}, r"Room\.sends has .*Message"),
        ({"sends": (Row,)}, r"Row, which is array_like"),
        ({"sends": (Said, SaidToo)}, r"Said and SaidToo, both of type 'said'"),
        ({"closes": {99: "what?"}}, r"Room\.closes is \{99: .*close code 99 cannot be sent"),
        ({"closes": [4001]}, r"Room\.closes is \[4001\]: write closes = \{4401:"),
    ],
)
def test_invalid_declaration_is_rejected_at_registration(
    attributes: dict[str, Any], complaint: str
) -> None:
    app = install(falcon.asgi.App())
    with pytest.raises(RegistrationError, match=complaint):
        app.add_websocket_route("/rooms", resource_with(**attributes))


def test_positions_are_part_of_the_contract_of_a_route_with_a_history_or_a_heartbeat() -> None:
    resource = resource_with()
    for config, sends, has_ids in (
        (RouteConfig(), False, False),
        (RouteConfig(history=History()), True, True),
        (RouteConfig(limits=Limits(heartbeat_seconds=5)), True, False),
        (RouteConfig(limits=Limits(heartbeat_seconds=math.inf)), False, False),
    ):
        contract = Contract.of(resource, config)
        assert (contract.sends.get("serverPosition") is ServerPosition) is sends
        assert contract.has_positions is has_ids


@pytest.mark.parametrize("reserved", ["serverError", "serverPosition", "serverPong"])
def test_a_type_of_the_framework_cannot_be_declared_by_another_class(reserved: str) -> None:
    class Own(Message, frozen=True, tag=reserved):
        text: str

    with pytest.raises(RegistrationError, match=f"'{reserved}', which the framework sends"):
        contract_of(resource_with(sends=(Own,)))
