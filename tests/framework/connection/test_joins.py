"""The requests to join and to leave."""

import msgspec
import pytest

from falcon_pachinko.connection.joins import ClientJoin, ClientLeave, JoinRoom

DECODER = msgspec.json.Decoder(ClientJoin | ClientLeave)


@pytest.mark.parametrize(
    ("payload", "rooms"),
    [
        ({"room": "a"}, [JoinRoom("a")]),
        ({"room": "a", "since": ["e:1"], "connection": ["x"]}, [JoinRoom("a", ["e:1"], ["x"])]),
        ({"rooms": [{"room": "a"}, {"room": "b", "more": 1}]}, [JoinRoom("a"), JoinRoom("b")]),
        ({}, [JoinRoom("")]),
    ],
)
def test_one_room_and_several_rooms_are_read_alike(payload: object, rooms: list[JoinRoom]) -> None:
    message = msgspec.json.encode({"type": "clientJoin", "payload": payload, "room": None})
    decoded = DECODER.decode(message)
    assert isinstance(decoded, ClientJoin)
    assert decoded.payload.all_rooms == rooms


def test_a_leave_names_its_room() -> None:
    decoded = DECODER.decode(b'{"type":"clientLeave","payload":{"room":"a"},"ref":"1"}')
    assert isinstance(decoded, ClientLeave)
    assert (decoded.payload.room, decoded.ref) == ("a", "1")
    with pytest.raises(msgspec.ValidationError):
        DECODER.decode(b'{"type":"clientLeave","payload":{}}')
