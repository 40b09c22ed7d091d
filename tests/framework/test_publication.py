"""Publications: how they are numbered."""

from falcon_pachinko.history import Position
from falcon_pachinko.publication import Publication


def test_a_binary_message_does_not_contain_its_position() -> None:
    data = b"\x00{}"
    publication = Publication.to_room(Publication.of_bytes(data))
    publication.number(Position("epoch", 1), shown=True)
    assert publication.body == data
