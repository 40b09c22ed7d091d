"""Groups of routes: their prefix, and the options that their routes share or replace."""

from typing import Any

import falcon.asgi
import pytest

from falcon_pachinko import (
    App,
    HandlerCall,
    History,
    Limits,
    Message,
    NextHandler,
    RegistrationError,
    RouteConfig,
    WebSocketGroup,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.schema.asyncapi import describe
from falcon_pachinko.testing import Refused, connect, run

from ..support.servers import SERVERS

ORIGIN, OTHER = "https://pages.example.com", "https://other.example.com"
GROUP, ROUTE = Limits(max_message_bytes=1_000), Limits(max_message_bytes=2_000)


class ServerSaid(Message, frozen=True):
    text: str


class Echo(WebSocketResource):
    limits = Limits(max_message_bytes=3_000)

    def __init__(self, greeting: str = "", *, store: Any = None) -> None:
        self.greeting, self.store = greeting, store

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, **params: Any
    ) -> bool:
        self.params = params
        return True

    @handles_message("say")
    async def say(self, ws: WebSocketLike, payload: dict[str, Any]) -> ServerSaid:
        return ServerSaid(text=f"{self.greeting} {self.store} {self.params}")


class Other(Echo):
    @handles_message("other")
    async def other(self, ws: WebSocketLike, payload: dict[str, Any]) -> None: ...


class Own(Echo):
    async def around(self, call: HandlerCall, next: NextHandler) -> Message | None:
        return marked("class", await next(call))


def marked(mark: str, reply: Message | None) -> Message:
    assert isinstance(reply, ServerSaid)
    return ServerSaid(text=f"{mark}({reply.text.strip()})")


def marking(mark: str) -> Any:
    async def hook(call: HandlerCall, next: NextHandler) -> Message | None:
        return marked(mark, await next(call))

    return hook


@pytest.fixture
def app() -> App:
    return install(falcon.asgi.App(), around=[marking("install")])


async def said(server: Any, path: str) -> str:
    async with server.connect(path) as client:
        await client.send("say")
        return str((await client.receive())["payload"]["text"])


async def test_hooks_of_a_group_are_between_those_of_install_and_of_the_route(app: App) -> None:
    group = WebSocketGroup("/ws", around=[marking("group")])
    group.add_route("/a", Echo)
    group.add_route("/b", Own, route_config=RouteConfig(around=[marking("route")]))
    app.add_websocket_group(group)
    app.add_websocket_route("/c", Echo)
    async with run(app) as server:
        assert await said(server, "/ws/a") == "install(group(None {}))"
        assert await said(server, "/ws/b") == "install(group(route(class(None {}))))"
        assert await said(server, "/c") == "install(None {})"


@pytest.mark.parametrize("name", sorted(SERVERS))
async def test_routes_of_a_group_are_served_under_its_prefix(app: App, name: str) -> None:
    group = WebSocketGroup("/ws/{tenant}")
    group.add_route("", Echo, "root")
    group.add_route("/chat/{number:int}", Echo, "chat", store="db")
    app.add_websocket_group(group)
    async with SERVERS[name](app) as endpoint:
        for path, expected in (
            ("/ws/a", "root None {'tenant': 'a'}"),
            ("/ws/a/chat/7", "chat db {'tenant': 'a', 'number': 7}"),
        ):
            async with connect(endpoint.ws_url(path)) as client:
                await client.send("say")
                assert (await client.receive())["payload"]["text"] == f"install({expected})"


async def test_the_factory_of_a_group_makes_its_resources_of_the_class_of_the_route(
    app: App,
) -> None:
    made: list[Any] = []

    def make(owner: type[Echo], *args: Any, **kwargs: Any) -> Echo:
        made.append(owner)
        return owner(*args, store="shared", **kwargs)

    group = WebSocketGroup("/ws", factory=make)
    group.add_route("/a", Echo, "hello")
    group.add_route("/b", Other)
    group.add_route("/c", lambda: Echo("own"))
    app.add_websocket_group(group)
    assert [route.resource_class for route in app.ws_routes[:2]] == [Echo, Other]
    async with run(app) as server:
        assert await said(server, "/ws/a") == "install(hello shared {})"
        assert await said(server, "/ws/b") == "install(shared {})"
        assert await said(server, "/ws/c") == "install(own None {})"
    assert made == [Echo, Other]


def test_options_of_a_route_take_precedence_over_those_of_its_group(app: App) -> None:
    group = WebSocketGroup("/ws", limits=GROUP, allowed_origins=[ORIGIN])
    group.add_route("/group", Echo)
    config = RouteConfig(limits=ROUTE, allowed_origins=[OTHER], history=History(messages=5))
    group.add_route("/route", Echo, route_config=config)
    app.add_websocket_group(group)
    plain = WebSocketGroup("/plain")
    plain.add_route("/class", Echo)
    app.add_websocket_group(plain)
    by_group, by_route, by_class = [route.config for route in app.ws_routes]
    assert (by_group.limits, list(by_group.allowed_origins)) == (GROUP, [ORIGIN])
    assert (by_route.limits, list(by_route.allowed_origins)) == (ROUTE, [OTHER])
    assert by_route.history == History(messages=5)
    assert (by_class.limits, list(by_class.allowed_origins)) == (Echo.limits, [])


async def test_the_origins_of_a_group_may_connect(app: App) -> None:
    group = WebSocketGroup("/ws", allowed_origins=[ORIGIN])
    group.add_route("/a", Echo)
    app.add_websocket_group(group)
    async with run(app) as server:
        async with server.connect("/ws/a", origin=ORIGIN):
            pass
        with pytest.raises(Refused):
            async with server.connect("/ws/a", origin=OTHER):
                pass


def test_the_contract_describes_the_routes_of_a_group(app: App) -> None:
    group = WebSocketGroup("/ws", factory=lambda owner: owner())
    group.add_route("/a", Echo, name="a")
    group.add_route("/b/{room}", Other)
    app.add_websocket_group(group)
    document = describe(app, info={"title": "t", "version": "1"}, servers={}, security_schemes={})
    found = {
        channel["address"]: sorted(channel["messages"]) for channel in document["channels"].values()
    }
    assert found.keys() == {"/ws/a", "/ws/b/{room}"}
    assert any("other" in key for key in found["/ws/b/{room}"])
    assert not any("other" in key for key in found["/ws/a"])


async def test_a_connection_may_be_in_several_rooms_of_a_group(app: App) -> None:
    group = WebSocketGroup("/ws", around=[marking("group")])
    group.add_route("/rooms/{name}", Echo)
    app.add_websocket_group(group)
    app.add_rooms_route("/ws", "/ws/rooms/{name}", name="all")
    async with run(app) as server, server.connect(app.ws_url_for("all")) as client:
        room = await client.join("a")
        await room.send("say")
        text = (await room.receive_until("serverSaid"))[-1]["payload"]["text"]
    assert text == "install(group(None {'name': 'a'}))"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"prefix": "/ws/"}, "'/ws/': write it like '/ws'"),
        ({"prefix": None}, "None: write it like '/ws'"),
        ({"prefix": "/ws", "factory": "Echo"}, "'Echo': pass a callable"),
        ({"prefix": "/ws", "around": [print]}, "is not a hook around handlers"),
        ({"prefix": "/ws", "limits": 5}, "limits is 5"),
        ({"prefix": "/ws", "allowed_origins": ORIGIN}, "give a list of origins"),
    ],
    ids=lambda each: str(each),
)
def test_an_argument_of_a_group_that_cannot_work_is_refused(
    arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RegistrationError, match=problem.replace("(", r"\(")):
        WebSocketGroup(**arguments)


@pytest.mark.parametrize(("prefix", "path"), [("/ws", "chat"), ("ws", "/chat"), ("", "")])
def test_a_path_that_does_not_begin_with_a_slash_is_refused(prefix: str, path: str) -> None:
    with pytest.raises(RegistrationError, match="begin it with '/'"):
        WebSocketGroup(prefix).add_route(path, Echo)


def test_faults_of_a_route_are_found_when_its_group_is_added(app: App) -> None:
    class Sync(Echo):
        def on_connect(self) -> bool:  # type: ignore[override]
            return True

    def make(owner: type[Echo], greeting: str) -> Echo:
        return owner(greeting)

    group = WebSocketGroup("/ws", factory=make)
    group.add_route("/a", Sync, "hello")
    with pytest.raises(RegistrationError, match=r"Sync\.on_connect must be a coroutine function"):
        app.add_websocket_group(group)
    group = WebSocketGroup("/ws", factory=make)
    group.add_route("/a", Echo)
    with pytest.raises(
        RegistrationError, match=r"cannot be called with these arguments: .*greeting"
    ):
        app.add_websocket_group(group)


def test_a_route_cannot_be_added_to_a_group_that_an_application_has_got(app: App) -> None:
    group = WebSocketGroup("/ws")
    group.add_route("/a", Echo)
    app.add_websocket_group(group)
    with pytest.raises(RegistrationError, match="'/ws/b' would be missing in the application"):
        group.add_route("/b", Echo)
    second = install(falcon.asgi.App())
    second.add_websocket_group(group)
    assert [route.uri_template for route in second.ws_routes] == ["/ws/a"]
