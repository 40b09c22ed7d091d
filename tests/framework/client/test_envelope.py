"""Messages as objects, and payloads that are checked before they are sent."""

import json

import pytest

from falcon_pachinko.client.envelope import MessageTypes, decode
from falcon_pachinko.errors import InvalidPayload
from falcon_pachinko.messages import ServerError

from .chat import ChatResource, Say, ServerSaid


@pytest.mark.parametrize("data", ["", "{", "null", "1", "[]", '"text"', b"{}", "[" * 100_000])
def test_data_that_is_no_object_is_no_message(data: object) -> None:
    assert decode(data) is None


def test_a_message_has_a_type_and_a_payload() -> None:
    assert decode('{"type": 1, "id": "e:1"}') == {"type": None, "payload": {}, "id": "e:1"}
    assert decode('{"type": "a", "payload": null}') == {"type": "a", "payload": {}}
    assert decode('{"type": "a", "payload": 7}') == {"type": "a", "payload": {}}


def test_messages_of_the_framework_are_known() -> None:
    payload = {"code": "forbidden", "error": "No.", "closeCode": 4403, "new": 1}
    message = MessageTypes().object_of("serverError", payload)
    assert message == ServerError(code="forbidden", error="No.", close_code=4403)


def test_without_a_resource_any_payload_is_sent() -> None:
    text = MessageTypes([ServerSaid]).encode("clientAny", Say(text="a"), ref="1")
    assert json.loads(text) == {"type": "clientAny", "payload": {"text": "a"}, "ref": "1"}
    assert json.loads(MessageTypes().encode("clientAny", None))["payload"] == {}


def test_half_a_character_cannot_be_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        MessageTypes().encode("clientSay", {"text": "\ud83d"})


def test_with_a_resource_payloads_are_checked_as_by_its_handlers() -> None:
    types = MessageTypes(resource=ChatResource)
    assert types.encode("clientFlood", None) == '{"type":"clientFlood","payload":{}}'
    for payload in (None, {}, {"text": 1}, Say(text=1)):  # type: ignore[arg-type]
        with pytest.raises(InvalidPayload, match="clientSay"):
            types.encode("clientSay", payload)
