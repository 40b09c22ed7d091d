"""The description of the wire for others, asyncapi.yaml, says what the program does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from falcon_pachinko import Message, ServerError

import {{ cookiecutter.package_name }}.resources.{{ cookiecutter.__resource_module }} as chat
from {{ cookiecutter.package_name }} import auth, messages

Tag = str | int | None

HANDLERS = chat.{{ cookiecutter.__resource_class }}.handler_table()
CLIENT_MESSAGES = {envelope.__struct_config__.tag: envelope for envelope in HANDLERS.envelopes}
SERVER_MESSAGES = {
    each.__struct_config__.tag: each
    for each in (*vars(messages).values(), ServerError)
    if isinstance(each, type) and issubclass(each, Message) and each is not Message
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    text = (Path(__file__).parents[2] / "asyncapi.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def without_prose(schema: Any) -> Any:
    """The schema without what is only for people."""
    if not isinstance(schema, dict):
        return schema
    return {
        key: sorted(value) if key == "required" else without_prose(value)
        for key, value in schema.items()
        if key not in ("title", "description")
    }


def schema_of(payload: Any, required: list[str], tag: Tag) -> dict[str, Any]:
    """The schema of a whole message."""
    payload = without_prose(payload)
    if not payload["required"]:
        del payload["required"]
    return {
        "type": "object",
        "required": required,
        "properties": {"type": {"const": tag}, "payload": payload},
    }


def client_schema(tag: Tag) -> dict[str, Any]:
    """What the program accepts as a message of this type."""
    [field] = msgspec.structs.fields(CLIENT_MESSAGES[tag])
    _, schemas = msgspec.json.schema_components([field.type])
    required = ["payload", "type"] if field.required else ["type"]
    return schema_of(schemas[field.type.__name__], required, tag)


def server_schema(tag: Tag) -> dict[str, Any]:
    """What the program sends as a message of this type."""
    struct = SERVER_MESSAGES[tag]
    _, schemas = msgspec.json.schema_components([struct])
    payload = schemas[struct.__name__]
    del payload["properties"]["type"]
    payload["required"].remove("type")
    return schema_of(payload, ["payload", "type"], tag)


def test_the_channel_is_the_one_that_is_served(
    document: dict[str, Any], websocket_path: str
) -> None:
    assert document["asyncapi"] == "3.0.0"
    channel = document["channels"]["room"]
    assert channel["address"] == websocket_path + "/{room_name}"
    assert channel["parameters"].keys() == {"room_name"}


def test_it_names_the_messages_of_the_program_and_no_others(document: dict[str, Any]) -> None:
    channel = document["channels"]["room"]
    names = CLIENT_MESSAGES.keys() | SERVER_MESSAGES.keys()
    assert len(names) >= 11
    assert CLIENT_MESSAGES.keys() == HANDLERS.by_type.keys()
    assert document["components"]["messages"].keys() >= names
    assert channel["messages"] == {
        name: {"$ref": f"#/components/messages/{name}"} for name in names
    }


def test_it_says_who_sends_what(document: dict[str, Any]) -> None:
    def names(action: str) -> set[str]:
        return {
            each["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            if (operation["action"], operation["channel"]) == (action, {"$ref": "#/channels/room"})
            for each in operation["messages"]
        }

    assert names("receive") == CLIENT_MESSAGES.keys()
    assert names("send") == SERVER_MESSAGES.keys()


@pytest.mark.parametrize("name", sorted(map(str, CLIENT_MESSAGES)))
def test_what_a_client_may_say_has_the_fields_and_bounds_that_are_checked(
    document: dict[str, Any], name: str
) -> None:
    documented = document["components"]["messages"][name]["payload"]
    assert without_prose(documented) == client_schema(name)


@pytest.mark.parametrize("name", sorted(map(str, SERVER_MESSAGES)))
def test_what_the_server_says_has_the_fields_that_are_sent(
    document: dict[str, Any], name: str
) -> None:
    documented = document["components"]["messages"][name]["payload"]
    assert without_prose(documented) == server_schema(name)


def test_its_examples_are_messages(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        assert message["examples"]
        for example in message["examples"]:
            envelope = example["payload"]
            assert envelope["type"] == name
            if name in CLIENT_MESSAGES:
                assert HANDLERS.decode(msgspec.json.encode(envelope).decode()) is not None
            else:
                flat = {"type": name, **envelope["payload"]}
                msgspec.convert(flat, SERVER_MESSAGES[name], strict=True)


def test_it_names_the_cookie_and_the_close_codes(document: dict[str, Any]) -> None:
    channel = document["channels"]["room"]
    for code in (chat.BAD_ROOM_NAME, chat.NOT_SIGNED_IN):
        assert f"- {code}: " in channel["description"]
    assert document["components"]["securitySchemes"]["cookie"]["name"] == auth.COOKIE_NAME
