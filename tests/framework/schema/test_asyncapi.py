"""The AsyncAPI document of the routed resources."""

import datetime
import enum
import functools
from typing import Annotated, Any, Literal

import falcon.asgi
import msgspec
import pytest

from falcon_pachinko import (
    App,
    Limits,
    Message,
    RegistrationError,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.schema.asyncapi import describe
from falcon_pachinko.schema.typescript import message_types

from .asyncapi_rules import as_json, problems_of

INFO = {"title": "Tests", "version": "1.2.3"}
SERVERS = {"development": {"host": "127.0.0.1:8000", "protocol": "ws"}}
SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}}


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Leaf(msgspec.Struct, tag="leaf"):
    size: Annotated[int, msgspec.Meta(gt=4, multiple_of=3)]


class Tree(msgspec.Struct, tag="tree"):
    branches: list["Tree | Leaf"]


class Order(msgspec.Struct, rename="camel"):
    """Payload of ``order it/now``: many kinds of types."""

    first_name: Annotated[str, msgspec.Meta(min_length=2, max_length=3, description="A ``name``.")]
    tree: Tree | Leaf
    at: datetime.datetime
    pair: tuple[int, str]
    colour: Colour
    word: Literal["x", "y"]
    perhaps: int | None
    code: Annotated[str, msgspec.Meta(pattern="^a+$", examples=["aaa"])]
    ratio: Annotated[float, msgspec.Meta(lt=0.5)]
    counts: dict[str, int]
    note: str = "none"


class Notified(Message, frozen=True):
    """Something has
    happened.

    Details for readers of the source.
    """

    is_done: bool
    leaf: Leaf
    times: list[datetime.date] = msgspec.field(default_factory=list)


class Room(WebSocketResource):
    """One room.

    Details for readers of the source.
    """

    sends = (Notified, bytes)
    closes = {4404: "there is no such room"}  # noqa: RUF012 - as in an application
    limits = Limits(max_message_bytes=1000)

    async def on_connect(
        self,
        req: falcon.asgi.Request,
        ws: WebSocketLike,
        room: Annotated[str, msgspec.Meta(description="Its name.", examples=["general"])],
        number: int,
    ) -> bool:
        return True

    @handles_message("order it/now")
    async def order(self, ws: WebSocketLike, payload: Order) -> None:
        """Order something, ``now``."""

    @handles_message("any")
    async def any(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("leaf")
    async def leaf(self, ws: WebSocketLike, payload: Leaf) -> None: ...

    @handles_binary
    async def data(self, ws: WebSocketLike, data: bytes) -> None:
        """Upload something."""


def document_of(*routes: tuple[str, Any], schemes: dict[str, Any] = SCHEMES) -> dict[str, Any]:
    app = install(falcon.asgi.App())
    for template, resource in routes:
        app.add_websocket_route(template, resource)
    return describe_app(app, schemes)


def describe_app(app: App, schemes: dict[str, Any] = SCHEMES) -> dict[str, Any]:
    document = describe(app, info=INFO, servers=SERVERS, security_schemes=schemes)
    assert as_json(document) == document
    assert problems_of(document) == []
    return document


def test_the_document_is_valid_for_many_kinds_of_payloads() -> None:
    document = document_of(("/rooms/{room}/{number:int}", Room))
    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == INFO
    assert document["servers"]["development"]["security"] == [
        {"$ref": "#/components/securitySchemes/bearer"}
    ]


def test_the_rules_report_invalid_documents() -> None:
    document = document_of(("/rooms/{room}/{number:int}", Room))
    document["channels"]["room"]["adress"] = "/rooms"
    document["operations"]["sendRoom"]["channel"]["$ref"] = "#/channels/hall"
    document["components"]["messages"]["notified"]["examples"][0]["payload"]["type"] = "notfied"
    problems = "\n".join(problems_of(document))
    assert "$.channels.room: " in problems
    assert "nothing is at #/channels/hall" in problems
    assert "example of notified: 'notified' was expected" in problems


def test_a_route_is_a_channel_with_parameters_and_close_codes() -> None:
    channel = document_of(("/rooms/{room}/{number:int}", Room))["channels"]["room"]
    assert channel["address"] == "/rooms/{room}/{number}"
    assert channel["title"] == "Room"
    assert channel["description"].startswith("One room. Messages in both directions")
    assert channel["parameters"] == {
        "room": {"description": "Its name.", "examples": ["general"]},
        "number": {},
    }
    assert channel["servers"] == [{"$ref": "#/servers/development"}]
    codes = channel["x-close-codes"]
    framework = ["1009", "1011", "1012", "1013", "4008", "4029", "4400", "4401", "4403", "4429"]
    assert list(codes) == sorted([*framework, "4404"])
    assert codes["4404"] == "there is no such room"
    assert codes["1009"] == "a message is larger than 1,000 bytes"


def test_each_direction_has_an_operation() -> None:
    operations = document_of(("/rooms/{room}/{number}", Room))["operations"]
    named = {
        (name, each["action"]): [ref["$ref"].rpartition("/")[2] for ref in each["messages"]]
        for name, each in operations.items()
    }
    assert named == {
        ("receiveRoom", "receive"): ["order_it_now", "any", "leaf"],
        ("receiveRoomClientBinary", "receive"): ["clientBinary"],
        ("receiveRoomClientPing", "receive"): ["clientPing"],
        ("receiveRoomClientReply", "receive"): ["clientReply"],
        ("sendRoom", "send"): [
            "notified",
            "serverAck",
            "serverSessionExpiring",
            "serverError",
            "serverPong",
            "serverBinary",
        ],
    }


def test_a_message_is_described_with_its_envelope() -> None:
    document = document_of(("/rooms/{room}/{number}", Room))
    messages, schemas = document["components"]["messages"], document["components"]["schemas"]
    assert messages["notified"] == {
        "name": "notified",
        "summary": "Something has happened.",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", "payload"],
            "properties": {
                "type": {"const": "notified"},
                "payload": {"$ref": "#/components/schemas/Notified"},
            },
        },
        "examples": [
            {
                "payload": {
                    "type": "notified",
                    "payload": {"isDone": True, "leaf": {"type": "leaf", "size": 6}},
                }
            }
        ],
    }
    assert list(schemas["Notified"]["properties"]) == ["isDone", "leaf", "times"]
    assert schemas["Notified"]["required"] == ["isDone", "leaf"]
    order = messages["order_it_now"]
    assert (order["name"], order["summary"]) == ("order it/now", "Order something, `now`.")
    assert schemas["Order"]["properties"]["firstName"] == {
        "type": "string",
        "minLength": 2,
        "maxLength": 3,
        "description": "A `name`.",
    }
    assert schemas["Order"]["properties"]["pair"]["items"] == [
        {"type": "integer"},
        {"type": "string"},
    ]
    assert "discriminator" not in schemas["Order"]["properties"]["tree"]


def test_an_optional_payload_is_not_required() -> None:
    message = document_of(("/rooms/{room}/{number}", Room))["components"]["messages"]["any"]
    assert message["payload"]["required"] == ["type"]
    assert message["examples"] == [{"payload": {"type": "any"}}]


def test_binary_messages_have_no_envelope() -> None:
    messages = document_of(("/rooms/{room}/{number}", Room))["components"]["messages"]
    assert messages["clientBinary"] == {
        "name": "clientBinary",
        "summary": "Upload something.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
    assert messages["serverBinary"]["contentType"] == "application/octet-stream"


def test_a_message_has_the_summary_of_its_payload_if_the_handler_has_none() -> None:
    class Plain(WebSocketResource):
        @handles_message("order")
        async def order(self, ws: WebSocketLike, payload: Order) -> None: ...

    summary = document_of(("/", Plain))["components"]["messages"]["order"]["summary"]
    assert summary == "Payload of `order it/now`: many kinds of types."


def test_channels_share_equal_messages_only() -> None:
    class Hall(WebSocketResource):
        @handles_message("leaf")
        async def leaf(self, ws: WebSocketLike, payload: Tree) -> None: ...

    document = document_of(
        ("/rooms/{room}/{number}", Room), ("/more/{room}/{number}", Room), ("/halls", Hall)
    )
    assert list(document["channels"]) == ["room", "room2", "hall"]
    assert list(document["components"]["messages"]) == [
        "order_it_now",
        "any",
        "leaf",
        "clientBinary",
        "clientPing",
        "clientReply",
        "notified",
        "serverAck",
        "serverSessionExpiring",
        "serverError",
        "serverPong",
        "serverBinary",
        "hall.leaf",
    ]
    assert list(document["channels"]["hall"]["messages"]) == [
        "hall.leaf",
        "clientPing",
        "clientReply",
        "serverAck",
        "serverSessionExpiring",
        "serverError",
        "serverPong",
    ]


class Part(Message, frozen=True):
    size: int


class Whole(Message, frozen=True):
    part: Part


def test_a_message_may_be_a_field_of_another_one() -> None:
    class Builder(WebSocketResource):
        sends = (Whole, Part)

    components = document_of(("/", Builder))["components"]
    [inside] = [name for name in components["schemas"] if name.endswith("test_asyncapi.Part")]
    assert components["schemas"]["Whole"]["properties"]["part"]["$ref"].endswith(f"/{inside}")
    assert components["schemas"][inside]["required"] == ["type", "size"]
    payload = components["messages"]["part"]["payload"]["properties"]["payload"]["$ref"]
    assert components["schemas"][payload.rpartition("/")[2]]["required"] == ["size"]


def test_two_classes_with_one_qualified_name_are_refused() -> None:
    def make() -> type[msgspec.Struct]:
        return msgspec.defstruct("Same", [("x", int)], module="tests")

    async def first(self: Any, ws: WebSocketLike, payload: Any) -> None: ...

    async def second(self: Any, ws: WebSocketLike, payload: Any) -> None: ...

    first.__annotations__["payload"], second.__annotations__["payload"] = make(), make()
    handlers = {"first": handles_message("a")(first), "second": handles_message("b")(second)}
    with pytest.raises(RegistrationError, match="two classes share the module and name"):
        document_of(("/", type("Twice", (WebSocketResource,), handlers)))


def test_a_resource_without_messages_has_those_of_the_framework() -> None:
    class Quiet(WebSocketResource):
        pass

    document = document_of(("/", Quiet), schemes={})
    assert list(document["operations"]) == [
        "receiveQuiet",
        "receiveQuietClientReply",
        "sendQuiet",
    ]
    assert list(document["components"]["messages"]) == [
        "clientPing",
        "clientReply",
        "serverSessionExpiring",
        "serverError",
        "serverPong",
    ]
    assert "security" not in document["servers"]["development"]


def test_a_route_that_refreshes_sessions_describes_the_token() -> None:
    class Quiet(WebSocketResource):
        pass

    async def authenticate(token: str) -> object: ...

    app = install(falcon.asgi.App(), authenticate=authenticate)
    app.add_websocket_route("/", Quiet)
    document = describe(app, info=INFO, servers={}, security_schemes={})
    messages = document["components"]["messages"]
    assert {"clientRefreshSession", "serverSessionRefreshed"} <= messages.keys()
    payload = messages["clientRefreshSession"]["payload"]["properties"]["payload"]
    (reference,) = payload.values()
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert schema["required"] == ["token"]
    assert schema["properties"]["token"]["maxLength"] == 8192
    assert "clientRefreshSession: " in message_types(document)


def make_room(*args: Any) -> Room:
    return Room()


def make_unannotated(*args: Any):  # type: ignore[no-untyped-def]
    return Room()


@pytest.mark.parametrize(
    "factory", [make_room, functools.partial(Room), functools.partial(make_room)]
)
def test_an_annotated_factory_is_described_like_its_class(factory: Any) -> None:
    assert document_of(("/{room}/{number}", factory)) == document_of(("/{room}/{number}", Room))


def test_an_unannotated_factory_is_refused_with_the_remedy() -> None:
    with pytest.raises(RegistrationError, match=r"annotate it with the resource's class"):
        document_of(("/", make_unannotated))


def test_a_pattern_needs_an_example() -> None:
    class Coded(msgspec.Struct):
        code: Annotated[str, msgspec.Meta(pattern="^[0-9]+$")]

    class Codes(WebSocketResource):
        @handles_message("enter")
        async def enter(self, ws: WebSocketLike, payload: Coded) -> None: ...

    with pytest.raises(RegistrationError, match=r"'enter' needs an example: .*examples=\["):
        document_of(("/", Codes))


def of_one_name(kind: type) -> type[WebSocketResource]:
    """Return a resource whose classes have the same names for each kind of the field."""

    class Enter(msgspec.Struct):
        value: kind  # type: ignore[valid-type]

    class Entered(Message, frozen=True):
        value: kind  # type: ignore[valid-type]

    class Hall(WebSocketResource):
        sends = (Entered,)

        @handles_message("enter")
        async def enter(self, ws: WebSocketLike, payload: Enter) -> None: ...

    return Hall


def test_applications_with_classes_of_the_same_name_have_their_own_documents() -> None:
    for kind, name, example in ((int, "integer", 1), (str, "string", "text"), (int, "integer", 1)):
        components = document_of(("/", of_one_name(kind)))["components"]
        for message in ("enter", "entered"):
            [given] = components["messages"][message]["examples"]
            assert given["payload"]["payload"] == {"value": example}
        for message in ("Enter", "Entered"):
            assert components["schemas"][message]["properties"]["value"] == {"type": name}


def test_a_changed_document_does_not_change_the_next_one() -> None:
    document = document_of(("/{room}/{number}", Room))
    before = as_json(document)
    for each in document["components"]["schemas"].values():
        each.clear()
    for each in document["components"]["messages"].values():
        each.get("payload", {}).get("properties", {}).clear()
        each.pop("examples", [{}])[0].clear()
    assert document_of(("/{room}/{number}", Room)) == before


def test_the_rate_of_a_message_type_is_part_of_its_summary() -> None:
    class Bounded(WebSocketResource):
        @handles_message("ping", per_second=0.5, burst=3)
        async def ping(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            """Check the connection."""

        @handles_message("poke", per_second=5)
        async def poke(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    messages = document_of(("/", Bounded))["components"]["messages"]
    assert (
        messages["ping"]["summary"] == "Check the connection. At most 0.5 per second and 3 at once."
    )
    assert messages["poke"]["summary"] == "At most 5 per second and 5 at once."


def test_a_message_type_that_is_handled_once_says_so_in_its_summary() -> None:
    class Shop(WebSocketResource):
        @handles_message("order", once=True, per_second=1)
        async def order(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
            """Order a book."""

    summary = document_of(("/", Shop))["components"]["messages"]["order"]["summary"]
    assert summary == (
        "Order a book. At most 1 per second and 1 at once. Handled once for each `ref` of a client,"
        " whose URL has its id as `client`."
    )
