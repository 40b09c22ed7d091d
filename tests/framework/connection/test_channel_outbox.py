"""The messages of a channel."""

import json
from typing import Any

from falcon_pachinko import Message
from falcon_pachinko.close_codes import close_event
from falcon_pachinko.connection.channel_outbox import ChannelOutbox, room_field
from falcon_pachinko.connection.outbox import ASGIOutbox
from falcon_pachinko.publication import Publication


class Note(Message, frozen=True):
    text: str


class Wire:
    """Records the messages that an outbox sends."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.outbox = ASGIOutbox(self.send, self.sent.append)

    async def send(self, event: Any) -> None:
        self.sent.append(json.loads(event["text"]) if event.get("text") else event)


def test_a_message_has_the_room_and_nothing_follows_the_close() -> None:
    wire = Wire()
    channel = ChannelOutbox(wire.outbox, "täg\n", "1")
    channel.confirm()
    channel.write(Publication(Note(text="hi")))
    channel.close()
    channel.write(Publication(Note(text="late")))
    channel.write(Publication.of_event(close_event(4403, "banned")))
    assert wire.sent == [
        {"type": "serverJoined", "payload": {}, "ref": "1", "room": "täg\n"},
        {"type": "note", "payload": {"text": "hi"}, "room": "täg\n"},
        {"type": "serverLeft", "payload": {"code": 4403, "reason": "banned"}, "room": "täg\n"},
    ]
    assert (channel.size_bytes, channel.waiting, channel.backlog.count) == (0, False, 0)


def test_a_close_before_the_reply_refuses() -> None:
    wire = Wire()
    channel = ChannelOutbox(wire.outbox, "a", "1")
    channel.write(Publication.of_event(close_event(3403, "")))
    (refusal,) = wire.sent
    assert refusal["payload"]["closeCode"] == 3403
    assert refusal["payload"]["code"] == "refused"
    assert (refusal["ref"], refusal["room"]) == ("1", "a")


def test_a_message_is_encoded_once_per_name_and_excluded_channels_do_not_get_it() -> None:
    wires = [Wire() for _ in range(4)]
    channels = [ChannelOutbox(wire.outbox, name) for wire, name in zip(wires, "aaab", strict=True)]
    group = ChannelOutbox.group(channels)
    publication = Publication(Note(text="hi"))
    group.write(publication, [channels[1], wires[0].outbox])
    rooms = [[each["room"] for each in wire.sent] for wire in wires]
    assert rooms == [["a"], [], ["a"], ["b"]]


def test_a_variant_follows_the_position_and_is_shared() -> None:
    publication, field = Publication(Note(text="hi")), room_field("a")
    variant = publication.for_room(field)
    assert publication.for_room(room_field("a")) is variant
    assert publication.for_room(room_field("b")) is not variant
    publication.body = publication.data = b'{"type":"note"}'
    assert publication.for_room(field).body == b'{"type":"note","room":"a"}'


def test_what_is_no_object_stays_as_it_is() -> None:
    field = room_field("a")
    for publication in (
        Publication.of_bytes(b"{}"),
        Publication.of_text("hello"),
        Publication.of_text("[1]"),
        Publication.of_text("}"),
        Publication.of_text(""),
    ):
        assert publication.for_room(field) is publication
    assert Publication.of_text("{}").for_room(field).body == b'{"room":"a"}'


async def test_an_ended_channel_waits_for_nothing() -> None:
    wire = Wire()
    channel = ChannelOutbox(wire.outbox, "a")
    assert await channel.wait_drained(1)
    channel.discard()
    channel.abort()
    assert channel.closed
    assert await channel.wait_drained(1)
