"""An application on uvicorn with our HTTP protocol, and raw requests to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import falcon.asgi

from falcon_pachinko import App, ServerLimits, install
from falcon_pachinko.testing import Served, serve
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol
from falcon_pachinko.uvicorn.sweep import SWEEPS

from .backends import wait_until

WAIT_SECONDS = 15
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


class Page:
    """Answers with the size of the request's body."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = "page"

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = str(len(await req.stream.read()))


class SlowPage:
    """Answers when the test permits it."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.requests = 0

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        self.requests += 1
        await self.may_answer.wait()
        resp.text = "slow"


class Site:
    """An application, and raw requests to it."""

    def __init__(self, app: App, slow: SlowPage) -> None:
        self.app = app
        self.slow = slow
        self.served: Served

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.served.port)

    async def exchange(self, *parts: bytes) -> bytes:
        """Send a request and return everything that the server sends until it closes."""
        reader, writer = await self.open()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0)
                return await reader.read()
        finally:
            writer.close()

    async def statuses(self, *parts: bytes) -> list[int]:
        return statuses_of(await self.exchange(*parts))

    async def wait_empty(self) -> None:
        """Wait until no socket is counted."""
        async with asyncio.timeout(WAIT_SECONDS):
            sweep = SWEEPS.of(asyncio.get_running_loop())
            await wait_until(lambda: not (self.app.ws_admission.sockets.total or sweep.connections))


def statuses_of(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


@asynccontextmanager
async def serve_site(**limits: Any) -> AsyncIterator[Site]:
    app = install(falcon.asgi.App(), server_limits=ServerLimits(**limits))
    slow = SlowPage()
    app.add_route("/", Page())
    app.add_route("/slow", slow)
    site = Site(app, slow)
    options: dict[str, Any] = {"ws": PushProtocol, "http": BoundedHTTPProtocol, "access_log": False}
    async with asyncio.timeout(WAIT_SECONDS), serve(app, **options) as site.served:
        yield site
        await site.wait_empty()
