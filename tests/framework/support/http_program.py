"""A service in a process of its own, on uvicorn with both of our protocols: prints its port."""

import socket

import falcon.asgi
import uvicorn

from falcon_pachinko import ServerLimits, WebSocketResource, install
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol


class Page:
    """Answers with 100 KB; its size does not depend on the body of the request."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.data = b"a" * 100_000

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await req.stream.read()


if __name__ == "__main__":
    app = install(falcon.asgi.App(), server_limits=ServerLimits(head_seconds=2.0))
    app.add_route("/", Page())
    app.add_websocket_route("/room", WebSocketResource)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_level="info",
        access_log=False,
        http=BoundedHTTPProtocol,
        ws=PushProtocol,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run([listener])
