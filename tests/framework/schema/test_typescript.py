"""TypeScript types of the messages in a document."""

import textwrap
from typing import Annotated, Any, Literal

import falcon.asgi
import msgspec

from falcon_pachinko import (
    Message,
    WebSocketLike,
    WebSocketResource,
    handles_binary,
    handles_message,
    install,
)
from falcon_pachinko.schema.asyncapi import describe
from falcon_pachinko.schema.typescript import message_types


class Leaf(msgspec.Struct, tag="leaf"):
    size: int


class Move(msgspec.Struct, rename="kebab"):
    """Go somewhere */ or not."""

    how_far: Annotated[float, msgspec.Meta(description="In metres.")]
    to: Literal["left", "right"]
    parts: list[Leaf | None]
    pair: tuple[int, str]
    names: dict[str, bool]
    anything: Any
    perhaps: str = ""


class Nothing(msgspec.Struct):
    pass


class Pair(msgspec.Struct, array_like=True):
    first: int
    second: str = ""


class ConnectionState(msgspec.Struct):
    pair: Pair


class Moved(Message, frozen=True):
    """A piece was moved."""

    by_whom: str


class Board(WebSocketResource):
    sends = (Moved, bytes)

    @handles_message("move now")
    async def move(self, ws: WebSocketLike, payload: Move) -> Moved | None:
        """Move."""

    @handles_message("rest")
    async def rest(self, ws: WebSocketLike, payload: Nothing) -> None: ...

    @handles_message("any")
    async def any(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...

    @handles_message("state")
    async def state(self, ws: WebSocketLike, payload: ConnectionState) -> None: ...

    @handles_binary
    async def data(self, ws: WebSocketLike, data: bytes) -> None: ...


class Lobby(WebSocketResource):
    pass


def types_of(**routes: type[WebSocketResource]) -> str:
    app = install(falcon.asgi.App())
    for path, resource in routes.items():
        app.add_websocket_route(f"/{path}", resource)
    info = {"title": "Tests", "version": "1"}
    return message_types(describe(app, info=info, servers={}, security_schemes={}))


def test_every_kind_of_schema_has_its_type() -> None:
    types = types_of(board=Board)
    assert (
        textwrap.dedent(
            """\
        /** Go somewhere *\\/ or not. */
        export interface Move {
          /** In metres. */
          "how-far": number;
          to: "left" | "right";
          parts: Array<Leaf | null>;
          pair: [number, string];
          names: Record<string, boolean>;
          anything: unknown;
          perhaps?: string;
        }
        """
        )
        in types
    )
    assert 'export interface Leaf {\n  type: "leaf";\n  size: number;\n}\n' in types
    assert "export type Nothing = Record<string, never>;\n" in types


def test_an_array_item_with_a_default_is_optional() -> None:
    assert "export type Pair = [number, (string)?];\n" in types_of(board=Board)


def test_a_reserved_name_is_changed() -> None:
    assert "export interface ConnectionState_ {\n  pair: Pair;\n}\n" in types_of(board=Board)


def test_each_side_of_a_channel_has_its_messages() -> None:
    types = types_of(board=Board)
    assert (
        textwrap.dedent(
            """\
        /** `/board` */
        export interface BoardClientMessages {
          rest: Nothing;
          any: Record<string, unknown>;
          state: ConnectionState_;
          /** Move. */
          "move now": Move;
          /** Reply to a request of the server: a message to this client that has a `ref`, which the reply repeats. */
          clientReply: ReplyPayload;
          /** Ask for a reply at once, to check the connection. Counts as a message of the client. */
          clientPing: Record<string, unknown>;
        }

        export type ClientMessages = BoardClientMessages;

        /** `/board` */
        export interface BoardServerMessages {
          /** A piece was moved. */
          moved: Moved;
        """
        )
        in types
    )
    assert "export type ServerMessages = BoardServerMessages;\n" in types


def test_a_request_has_the_types_of_its_replies() -> None:
    assert types_of(board=Board).endswith(
        textwrap.dedent(
            """\
        /** The types of the replies in `/board`. */
        export interface BoardReplies {
          rest: "serverAck";
          any: "serverAck";
          state: "serverAck";
          "move now": "moved" | "serverAck";
          clientPing: "serverPong";
        }

        export interface Replies {
          rest: "serverAck";
          any: "serverAck";
          state: "serverAck";
          "move now": "moved" | "serverAck";
          clientPing: "serverPong";
        }
        """
        )
    )


def test_several_channels_are_joined() -> None:
    types = types_of(board=Board, lobby=Lobby)
    assert "export type ClientMessages = BoardClientMessages & LobbyClientMessages;\n" in types
    assert types.count("  clientPing: Record<string, unknown>;\n") == 2


def test_a_request_of_two_channels_may_have_the_replies_of_both() -> None:
    class Table(WebSocketResource):
        @handles_message("rest")
        async def rest(self, ws: WebSocketLike, payload: Nothing) -> Moved:
            return Moved(by_whom="nobody")

    types = types_of(board=Board, table=Table)
    assert '  rest: "serverAck" | "moved";\n' in types[types.index("export interface Replies {") :]


def test_a_document_without_channels_has_empty_records() -> None:
    assert types_of() == (
        "export type ClientMessages = Record<string, never>;\n\n"
        "export type ServerMessages = Record<string, never>;\n\n"
        "export interface Replies {\n}\n"
    )
