"""The wire format of each message, and the payloads that are accepted."""

from __future__ import annotations

import json

import msgspec
import pytest

from falcon_pachinko import Message
from falcon_pachinko.publication import Publication

from {{ cookiecutter.package_name }} import (
    message_fields,
    messages,
)

ALICE, BOB = messages.RoomUser("Alice", "u1"), messages.RoomUser("Bob", "u2")
SHOWN_ALICE, SHOWN_BOB = {"user": "Alice", "userId": "u1"}, {"user": "Bob", "userId": "u2"}
WIRE_FORMS = [
    (
        messages.ServerSystemMessage(text="Welcome"),
        {"type": "serverSystemMessage", "payload": {"text": "Welcome"}},
    ),
    (
        messages.ServerRoomState(users=[ALICE, BOB], you=BOB, count=2),
        {
            "type": "serverRoomState",
            "payload": {"users": [SHOWN_ALICE, SHOWN_BOB], "you": SHOWN_BOB, "count": 2},
        },
    ),
    (
        messages.ServerUserJoined(user="Alice", user_id="u1"),
        {"type": "serverUserJoined", "payload": {"user": "Alice", "userId": "u1"}},
    ),
    (
        messages.ServerUserLeft(user="Alice", user_id="u1"),
        {"type": "serverUserLeft", "payload": {"user": "Alice", "userId": "u1"}},
    ),
    (
        messages.ServerNewMessage(user="Alice", user_id="u1", text='<b>"hé"</b> 😀'),
        {
            "type": "serverNewMessage",
            "payload": {"user": "Alice", "userId": "u1", "text": '<b>"hé"</b> 😀'},
        },
    ),
    (
        messages.ServerNewMessage(user="Alice", user_id="u1", text="Hi", message_id="0199c0"),
        {
            "type": "serverNewMessage",
            "payload": {"user": "Alice", "userId": "u1", "text": "Hi", "messageId": "0199c0"},
        },
    ),
    (
        messages.ServerHistory(
            messages=[
                messages.PastMessage(
                    message_id="0199c0",
                    user="Alice",
                    user_id="u1",
                    text="Hi",
                    at=1_732_700_000_000,
                    revision=1,
                    edited=True,
                    reply_to=message_fields.Quoted("0199b0", "Bob", "u2", "Hello"),
                    reactions=[message_fields.Reaction("👍", 2, True)],
                )
            ],
            has_more=True,
        ),
        {
            "type": "serverHistory",
            "payload": {
                "messages": [
                    {
                        "messageId": "0199c0",
                        "user": "Alice",
                        "userId": "u1",
                        "text": "Hi",
                        "at": 1_732_700_000_000,
                        "revision": 1,
                        "edited": True,
                        "replyTo": {
                            "messageId": "0199b0",
                            "user": "Bob",
                            "userId": "u2",
                            "text": "Hello",
                        },
                        "reactions": [{"reaction": "👍", "count": 2, "mine": True}],
                    }
                ],
                "hasMore": True,
                "readTo": None,
            },
        },
    ),
    (
        messages.ServerMessageEdited(message_id="0199c0", text="Hello", revision=1),
        {
            "type": "serverMessageEdited",
            "payload": {"messageId": "0199c0", "text": "Hello", "revision": 1},
        },
    ),
    (
        messages.ServerMessageDeleted(message_id="0199c0", revision=2),
        {"type": "serverMessageDeleted", "payload": {"messageId": "0199c0", "revision": 2}},
    ),
    (
        messages.ServerReaction(
            message_id="0199c0",
            reaction="👍",
            user="Alice",
            user_id="u1",
            on=True,
            count=2,
            revision=3,
        ),
        {
            "type": "serverReaction",
            "payload": {
                "messageId": "0199c0",
                "reaction": "👍",
                "user": "Alice",
                "userId": "u1",
                "on": True,
                "count": 2,
                "revision": 3,
            },
        },
    ),
    (
        messages.ServerReadMarker(room="general", message_id="0199c0"),
        {"type": "serverReadMarker", "payload": {"room": "general", "messageId": "0199c0"}},
    ),
    (
        messages.ServerRooms(rooms=[messages.KnownRoom(room="general", users=3, unread=1)]),
        {
            "type": "serverRooms",
            "payload": {"rooms": [{"room": "general", "users": 3, "unread": 1}]},
        },
    ),
    (
        messages.ServerUserTyping(user="Alice", user_id="u1", is_typing=True),
        {
            "type": "serverUserTyping",
            "payload": {"user": "Alice", "userId": "u1", "isTyping": True},
        },
    ),
    (
        messages.ServerSystemAnnouncement(text="Soon"),
        {"type": "serverSystemAnnouncement", "payload": {"text": "Soon"}},
    ),
]


@pytest.mark.parametrize(("message", "wire_form"), WIRE_FORMS, ids=lambda each: type(each).__name__)
def test_a_message_is_sent_with_its_type_and_payload(
    message: Message, wire_form: dict[str, object]
) -> None:
    assert json.loads(Publication(message).event["text"]) == wire_form


def test_every_message_has_a_wire_form_above() -> None:
    defined = {
        each
        for each in vars(messages).values()
        if isinstance(each, type)
        and issubclass(each, Message)
        and each.__module__ == messages.__name__
    }
    assert {type(message) for message, _ in WIRE_FORMS} == defined


@pytest.mark.parametrize("text", ["x", " ", "x" * 2000, "😀" * 2000, "a\nb", "\x00"])
def test_a_text_has_one_to_two_thousand_characters(text: str) -> None:
    assert msgspec.convert({"text": text}, messages.SendMessage).text == text


@pytest.mark.parametrize(
    "payload", [{}, {"text": ""}, {"text": "x" * 2001}, {"text": None}, {"text": 7}, {"Text": "x"}]
)
def test_an_invalid_text_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(payload, messages.SendMessage)


def test_unknown_fields_are_ignored() -> None:
    message = msgspec.convert({"text": "x", "language": "en"}, messages.SendMessage)
    assert message == messages.SendMessage(text="x")
    assert msgspec.convert({"where": "here"}, messages.NoPayload) == messages.NoPayload()
