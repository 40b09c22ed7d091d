"""Publications: frames, recipients, positions, the encoding between processes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko.history import Position
from falcon_pachinko.publication import DEFAULT_HEADER, TEXT, Header, Publication


def test_a_binary_message_does_not_contain_its_position() -> None:
    data = b"\x00{}"
    publication = Publication.to_room(Publication.of_bytes(data))
    publication.number(Position("epoch", 1), shown=True)
    assert publication.body == data


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frame_header_matches_its_size(size: int, header: bytes) -> None:
    assert Publication.of_text("x" * size).make_frame() == header + b"x" * size


def test_binary_frame_has_the_binary_opcode() -> None:
    assert Publication.of_bytes(b"\xff").make_frame() == b"\x82\x01\xff"


def test_a_frame_and_an_event_are_built_once() -> None:
    publication = Publication({"type": "x"})
    assert publication.frame is None
    assert publication.make_frame() is publication.frame
    assert (
        publication.event is publication.event == {"type": "websocket.send", "text": '{"type":"x"}'}
    )


@pytest.mark.parametrize(
    ("message", "published_ms", "body"),
    [
        ({"type": "x"}, 1700, '{"type":"x","id":"e:7","at":1700}'),
        ({"type": "x"}, None, '{"type":"x","id":"e:7"}'),
        ({}, 1700, '{"id":"e:7","at":1700}'),
        (["x"], 1700, '["x"]'),
        ("text", 1700, '"text"'),
    ],
)
def test_the_position_and_the_time_are_beside_the_payload(
    message: object, published_ms: int | None, body: str
) -> None:
    publication = Publication(message)
    publication.make_frame()
    publication.number(Position("e", 7), published_ms, shown=True)
    assert publication.body.decode() == body
    assert publication.event["text"] == body
    assert publication.make_frame().endswith(body.encode())
    assert publication.size_bytes == len(body)
    assert json.loads(publication.data) == message, "the published data has no position"


def test_a_hidden_position_changes_nothing_on_the_wire() -> None:
    publication = Publication({"type": "x"})
    frame = publication.make_frame()
    publication.number(Position("e", 7), shown=False)
    assert publication.make_frame() == frame
    assert publication.position == Position("e", 7)


HEADERS = st.builds(
    Header,
    binary=st.booleans(),
    exclude_connections=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    exclude_users=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    user=st.none() | st.text(max_size=3),
    connection=st.none() | st.text(max_size=3),
    close_code=st.sampled_from([0, 1000, 4401]),
)


@given(data=st.binary(), header=HEADERS)
def test_the_encoding_between_processes_keeps_header_and_data(data: bytes, header: Header) -> None:
    decoded = Publication.decode(Publication.of_encoded(data, header=header).encode())
    assert (decoded.data, decoded.header) == (data, header)


def test_the_default_header_is_encoded_as_nothing() -> None:
    assert Publication({"a": 1}).encode() == b'\n{"a":1}'
    decoded = Publication.decode(b'\n{"a":1}')
    assert decoded.header is DEFAULT_HEADER
    assert decoded.opcode == TEXT


def test_excluded_connections_and_users_are_not_recipients() -> None:
    publication = Publication.to_room({"type": "x"}, ("c1",), ["alice"])
    assert not publication.is_for({"c1"}, "bob")
    assert not publication.is_for({"c2"}, "alice")
    assert publication.is_for({"c2"}, "bob")
    assert publication.is_for({"c2"}, None)


def test_publishing_a_publication_again_makes_another_one() -> None:
    first = Publication.to_room({"type": "x"})
    first.number(Position("e", 1), shown=True)
    again = Publication.to_room(first, ("c1",))
    assert again is not first
    assert again.body == b'{"type":"x"}'
    assert first.header is DEFAULT_HEADER


def test_a_text_is_not_a_list_of_users() -> None:
    with pytest.raises(TypeError, match="'alice': give a list of users"):
        Publication.to_room({}, (), "alice")


def test_a_close_needs_a_code_that_may_be_sent() -> None:
    publication = Publication.close(4401, "sign in", user="alice")
    assert publication.header == Header(close_code=4401, user="alice")
    assert publication.data == b"sign in"
    with pytest.raises(ValueError, match="close code 1006 cannot be sent"):
        Publication.close(1006, "")
