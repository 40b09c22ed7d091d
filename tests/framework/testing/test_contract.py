"""``check_contract``: undeclared messages and close codes fail the client that receives them."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import falcon.asgi
import falcon.routing
import msgspec
import pytest

from falcon_pachinko import App, Message, WebSocketLike, WebSocketResource, handles_message, install
from falcon_pachinko.testing import Running, Undeclared, declarations, run, serve

Open = Callable[..., AbstractAsyncContextManager[Running]]


class Place(msgspec.Struct):
    x: int


class Said(Message, frozen=True):
    text: str
    places: tuple[Place, ...] = ()
    shout: bool = False


class Forgotten(Message, frozen=True):
    text: str


class Parrot(WebSocketResource):
    sends: ClassVar[Sequence[type[Message] | type[bytes]]] = (Said,)
    closes = {4001: "enough"}  # noqa: RUF012 - as in an application

    @handles_message("json")
    async def json(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media(payload["message"])

    @handles_message("text")
    async def text(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_text(payload["message"])

    @handles_message("binary")
    async def binary(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_data(payload["message"].encode())

    @handles_message("forgotten")
    async def forgotten(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.send_media(Forgotten(text="I am lost"))

    @handles_message("close")
    async def close(self, ws: WebSocketLike, payload: dict[str, Any]) -> None:
        await ws.close(payload["code"])


class BinaryParrot(Parrot):
    sends = (Said, bytes)


@pytest.fixture
def app() -> App:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/parrots/{number:int}", Parrot)
    app.add_websocket_route("/binary", BinaryParrot)
    return app


@pytest.fixture(params=[run, serve], ids=["run", "serve"])
def open_app(request: pytest.FixtureRequest, app: App) -> Open:
    """Run or serve the application with the check enabled."""
    return lambda: request.param(app, check_contract=True)


async def test_an_undeclared_message_fails_with_its_type(open_app: Open) -> None:
    async with open_app() as parrots, parrots.connect("/parrots/1?user=Alice") as alice:
        await alice.send("forgotten")
        with pytest.raises(
            Undeclared,
            match=r"Parrot sent .*forgotten.*, whose type 'forgotten' it does not declare:"
            r" add the message's class to Parrot\.sends",
        ):
            await alice.receive()


async def ignore_messages(parrots: Running, failure: Exception | None = None) -> None:
    """Receive an undeclared message without reading it, and optionally fail."""
    async with parrots.connect("/parrots/1") as alice:
        await alice.send("forgotten")
        await alice.send("json", {"message": {"type": "said", "payload": {"text": "x"}}})
        await alice.send("close", {"code": 4001})
        await alice.socket.wait_closed()
        if failure is not None:
            raise failure


async def test_an_unread_undeclared_message_fails(open_app: Open) -> None:
    async with open_app() as parrots:
        with pytest.raises(Undeclared, match="'forgotten'"):
            await ignore_messages(parrots)


async def test_an_undeclared_message_is_a_note_of_an_earlier_failure(open_app: Open) -> None:
    async with open_app() as parrots:
        with pytest.raises(ZeroDivisionError) as failure:
            await ignore_messages(parrots, ZeroDivisionError())
    assert "'forgotten' it does not declare" in "".join(failure.value.__notes__)


async def test_the_check_is_off_by_default(app: App) -> None:
    for open_app in (run, serve):
        async with open_app(app) as parrots, parrots.connect("/parrots/1") as alice:
            await alice.send("forgotten")
            assert await alice.receive(Forgotten) == Forgotten(text="I am lost")


FITTING = [
    {"type": "said", "payload": {"text": "x"}},
    {"type": "said", "payload": {"text": "x", "shout": True, "places": [{"x": 1}]}},
    {"type": "serverError", "payload": {"code": "a", "error": "b"}},
]
MISFITS = [
    ({"type": "said", "payload": {}}, "does not fit Said .*missing required field `text`"),
    ({"type": "said", "payload": {"text": 5}}, "does not fit Said .*Expected `str`"),
    ({"type": "said", "payload": {"text": "", "extra": 1}}, r"it has no field extra"),
    ({"type": "said", "payload": {"text": "", "type": "said"}}, r"it has no field type"),
    (
        {"type": "said", "payload": {"text": "", "places": [{"x": 1}, {"x": 1, "y": 1}]}},
        r"it has no field places\[1\]\.y",
    ),
    ({"type": "said", "payload": None}, "does not fit Said .*Expected `object`"),
    ({"type": "said"}, "it has type instead of type and payload"),
    ({"type": "said", "payload": {"text": ""}, "id": 1}, "it has type, payload, id instead"),
    ({"type": "Said", "payload": {"text": ""}}, "whose type 'Said' it does not declare"),
    ({"type": ["said"]}, r"whose type \['said'\] it does not declare"),
    ({"payload": {}}, "whose type None it does not declare"),
    (["said"], "whose type None it does not declare"),
]


async def test_a_dict_that_fits_a_declared_class_passes(open_app: Open) -> None:
    async with open_app() as parrots, parrots.connect("/parrots/1") as alice:
        for message in FITTING:
            await alice.send("json", {"message": message})
            assert await alice.receive() == message


@pytest.mark.parametrize(
    ("message", "complaint"), MISFITS, ids=[complaint for _, complaint in MISFITS]
)
async def test_a_dict_that_does_not_fit_fails(app: App, message: Any, complaint: str) -> None:
    async with run(app, check_contract=True) as parrots, parrots.connect("/parrots/1") as alice:
        await alice.send("json", {"message": message})
        with pytest.raises(Undeclared, match=f"Parrot sent .*{complaint}"):
            await alice.receive()


async def test_text_that_is_not_a_message_fails(app: App) -> None:
    async with run(app, check_contract=True) as parrots, parrots.connect("/parrots/1") as alice:
        await alice.send("text", {"message": "Hello?"})
        with pytest.raises(Undeclared, match="Parrot sent 'Hello\\?'"):
            await alice.receive_raw()


async def test_binary_messages_are_declared_as_bytes(app: App) -> None:
    async with run(app, check_contract=True) as parrots:
        async with parrots.connect("/binary") as alice:
            await alice.send("binary", {"message": "data"})
            assert await alice.receive_raw() == b"data"
        async with parrots.connect("/parrots/1") as alice:
            await alice.send("binary", {"message": "data"})
            with pytest.raises(Undeclared, match=r"add bytes to Parrot\.sends"):
                await alice.receive_raw()


async def request_close(parrots: Running, code: int) -> None:
    """Request a close with a code."""
    async with parrots.connect("/parrots/1") as alice:
        await alice.send("close", {"code": code})
        assert (await alice.wait_closed())[0] == code


async def test_an_undeclared_close_code_fails(open_app: Open) -> None:
    async with open_app() as parrots:
        with pytest.raises(Undeclared, match=r"Parrot closed with 4002: .*Parrot\.closes"):
            await request_close(parrots, 4002)


@pytest.mark.parametrize("code", [1000, 3000, 4001])
async def test_declared_and_protocol_close_codes_pass(app: App, code: int) -> None:
    async with run(app, check_contract=True) as parrots:
        await request_close(parrots, code)


async def test_the_close_code_of_the_client_is_not_checked(open_app: Open) -> None:
    async with open_app() as parrots, parrots.connect("/parrots/1") as alice:
        await alice.close(4999)


async def test_a_path_without_a_route_has_no_declaration(app: App) -> None:
    find_declaration = declarations(app)
    assert find_declaration("/nothing") is None
    found = find_declaration("/parrots/7?user=Alice")
    assert found is not None
    assert found.contract.name == "Parrot"


async def test_paths_match_by_the_converters_of_the_application() -> None:
    class Even(falcon.routing.BaseConverter):
        def convert(self, value: str) -> int | None:
            return int(value) if value.isdecimal() and int(value) % 2 == 0 else None

    app = install(falcon.asgi.App())
    app.router_options.converters["even"] = Even
    app.add_websocket_route("/parrots/{number:even}", Parrot)
    app.add_websocket_route("/eggs/{id:uuid}", Parrot)
    find_declaration = declarations(app)
    assert find_declaration("/parrots/4") is not None
    assert find_declaration("/parrots/5") is None
    assert find_declaration(f"/eggs/{uuid.uuid4()}") is not None
    assert find_declaration("/eggs/4") is None


async def test_an_application_without_routes_cannot_be_checked() -> None:
    with pytest.raises(TypeError, match=r"pass the result of falcon_pachinko\.install\(\)"):
        async with run(falcon.asgi.App(), check_contract=True):
            pass
