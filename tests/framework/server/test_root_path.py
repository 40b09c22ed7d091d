"""An application below a path prefix: behind a proxy that removes it or not, and mounted in another one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from falcon_pachinko import (
    App,
    ConfigurationError,
    WebSocketLike,
    WebSocketResource,
    install,
    lifespan,
)
from falcon_pachinko.server.root_path import check_root_path, strip_root_path

from ..support.servers import SERVERS, WAIT_SECONDS


class Where:
    """The prefix and the path of a request."""

    async def on_get(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **params: Any
    ) -> None:
        resp.media = {"prefix": req.root_path, "path": req.path, "url": req.relative_uri}


class Echo(WebSocketResource):
    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str, **params: Any
    ) -> bool:
        await ws.send_media({"prefix": req.root_path, "name": name})
        return True


def make_app(root_path: str = "") -> App:
    app = install(falcon.asgi.App(), root_path=root_path)
    for path in ("/", "/page/{name}"):
        app.add_route(path, Where())
    app.add_websocket_route("/ws/{name}", Echo)
    return app


async def check(port: int, *prefixes: str, root_path: str) -> None:
    """Check requests with and without a prefix in their path."""
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
        for prefix in prefixes:
            url = f"http://127.0.0.1:{port}{prefix}/page/a%20b?x=1"
            assert (await client.get(url)).json() == {
                "prefix": root_path,
                "path": "/page/a b",
                "url": f"{root_path}/page/a b?x=1",
            }
            async with connect(f"ws://127.0.0.1:{port}{prefix}/ws/Alice") as socket:
                assert await socket.recv() == f'{{"prefix":"{root_path}","name":"Alice"}}'


@pytest.mark.parametrize("server", SERVERS)
async def test_the_prefix_may_be_in_the_path_or_not(server: str) -> None:
    async with SERVERS[server](make_app("/chat")) as endpoint:
        await check(endpoint.port, "", "/chat", root_path="/chat")


async def test_uvicorn_may_know_the_prefix_as_well() -> None:
    for app in (make_app("/chat"), make_app()):
        async with SERVERS["push"](app, root_path="/chat") as endpoint:
            await check(endpoint.port, "", "/chat", root_path="/chat")


@pytest.mark.parametrize("root_path", ["/chat", ""])
async def test_an_application_is_mounted_in_another_one(root_path: str) -> None:
    chat = make_app(root_path)

    @contextlib.asynccontextmanager
    async def run(_: Starlette) -> AsyncIterator[None]:
        async with lifespan(chat):
            yield

    site = Starlette(routes=[Mount("/chat", chat)], lifespan=run)
    async with SERVERS["push"](site) as endpoint:
        await check(endpoint.port, "/chat", root_path="/chat")
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.1:{endpoint.port}/ws/Alice")


async def test_a_mounted_application_may_have_a_longer_public_prefix() -> None:
    chat = make_app("/site/chat")

    @contextlib.asynccontextmanager
    async def run(_: Starlette) -> AsyncIterator[None]:
        async with lifespan(chat):
            yield

    site = Starlette(routes=[Mount("/chat", chat)], lifespan=run)
    async with SERVERS["push"](site) as endpoint:
        await check(endpoint.port, "/chat", root_path="/site/chat")


async def test_the_prefix_alone_is_redirected_to_its_slash() -> None:
    async with SERVERS["push"](make_app("/chat")) as endpoint:
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
            response = await client.get(f"http://127.0.0.1:{endpoint.port}/chat?x=%2F")
            assert response.status_code == 307
            assert response.headers["Location"] == "/chat/?x=%2F"
            response = await client.get(f"http://127.0.0.1:{endpoint.port}/chat/")
            assert response.json()["path"] == "/"
            response = await client.get(f"http://127.0.0.1:{endpoint.port}/chatter")
            assert response.status_code == 404
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{endpoint.port}/chat")


def test_the_scope_of_the_server_stays_unchanged() -> None:
    scope = {"path": "/chat/a b", "raw_path": b"/chat/a%20b", "root_path": "", "type": "http"}
    before = dict(scope)
    stripped = strip_root_path(scope, "/chat")
    assert (stripped["path"], stripped["raw_path"]) == ("/a b", b"/a%20b")
    assert stripped["root_path"] == "/chat"
    assert scope == before
    assert strip_root_path(scope, "") is scope


@pytest.mark.parametrize(
    ("given", "prefix"), [("", ""), ("/", ""), ("/chat", "/chat"), ("/a/b-c/", "/a/b-c")]
)
def test_a_prefix_has_no_slash_at_its_end(given: str, prefix: str) -> None:
    assert check_root_path(given) == prefix


@pytest.mark.parametrize(
    "given",
    ["chat", "//evil.example", "/a//b", "/a/../b", "/a b", "/a;Path=/", "/é", "/a\n", "/%41"],
)
def test_an_invalid_prefix_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match="write it like /chat"):
        install(falcon.asgi.App(), root_path=given)


def test_a_route_below_the_prefix_is_refused(tmp_path: Path) -> None:
    app = install(falcon.asgi.App(), root_path="/ws")
    with pytest.raises(ConfigurationError, match="begins with the path prefix"):
        app.add_websocket_route("/ws/{name}", Echo)
    with pytest.raises(ConfigurationError, match="'/ws' begins with the path prefix '/ws'"):
        app.add_route("/ws", Where())
    with pytest.raises(ConfigurationError, match="'/ws/files' begins with the path prefix '/ws'"):
        app.add_static_route("/ws/files", tmp_path)
    app.add_static_route("/files", tmp_path)
    app.add_route("/wss", Where())
    app.add_websocket_route("/wss/{name}", Echo)
