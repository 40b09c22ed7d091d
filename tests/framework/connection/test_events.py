"""The events of Falcon's WebSocket, as publications."""

from typing import Any

import pytest

from falcon_pachinko.connection.events import publication_of


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ({"type": "websocket.send", "text": "hé"}, "hé".encode()),
        ({"type": "websocket.send", "text": None, "bytes": b"\x00"}, b"\x00"),
        ({"type": "websocket.send", "bytes": b"\x01"}, b"\x01"),
        ({"type": "websocket.send", "text": ""}, b""),
    ],
    ids=str,
)
def test_message_keeps_its_data_and_kind(event: dict[str, Any], data: bytes) -> None:
    publication = publication_of(event)
    assert publication.data == data
    is_text = event.get("text") is not None
    assert (publication.event.get("text") is not None) == is_text


def test_other_event_is_passed_on_as_it_is() -> None:
    event: dict[str, Any] = {"type": "websocket.accept", "subprotocol": None, "headers": []}
    assert publication_of(event).event == event
