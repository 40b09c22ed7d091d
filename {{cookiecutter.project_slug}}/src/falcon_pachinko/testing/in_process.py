"""An application inside the process of its test: uvicorn without a socket."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import enable_client_permessage_deflate
from websockets.frames import Close
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from ..close_codes import INTERNAL_ERROR
from ..connection.inbox import Event
from .client import WAIT_SECONDS, Client
from .contract import FindDeclaration, declarations
from .errors import Closed, fail
from .handshake import (
    CLOSE_SECONDS,
    Handshake,
    all_headers,
    check_options,
    check_path,
    explained,
)
from .lifespan import living
from .memory import join
from .running import SETTINGS, STEP_SECONDS, Running, sigterm_stops
from .tasks import wait_ended

HOST = "127.0.0.1"


class Call:
    """What the application does with one connection, seen from its server.

    Attributes:
        task: The one in which it runs.
        close: How it has closed the connection.
        crash: What it raised.
    """

    def __init__(self, send: Any) -> None:
        self.server_send = send
        self.task = asyncio.current_task()
        self.close: Close | None = None
        self.crash: BaseException | None = None

    async def send(self, event: Event) -> None:
        """Let an event through, and remember a close."""
        if event["type"] == "websocket.close":
            self.close = Close(event.get("code", 1000), event.get("reason") or "")
        await self.server_send(event)


class Application:
    """The application, with a record of each connection by the port of its client."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.calls: dict[int, Call] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        call = self.calls[scope["client"][1]] = Call(send)
        try:
            return await self.app(scope, receive, call.send)
        except (ClientDisconnected, asyncio.CancelledError):
            raise  # how a connection may end
        except BaseException as error:
            call.crash = error
            raise


class InProcess(Running):
    """An application that is served by uvicorn's own protocol classes, over memory instead of a socket.

    Args:
        config: uvicorn's, loaded.
        application: The application that stands in it.
        declaration_at: Finds what the application may send at a path.
    """

    def __init__(
        self, config: uvicorn.Config, application: Application, declaration_at: FindDeclaration
    ) -> None:
        self.config = config
        self.declaration_at = declaration_at
        self.application = application
        self.server_state = ServerState()
        self.app_state: dict[str, Any] = {}
        self.context = contextvars.copy_context()
        self.client_ports = itertools.count(49152)
        self.stopped = False

    @property
    def origin(self) -> str:
        return f"http://{HOST}"

    @asynccontextmanager
    async def connect(self, path: str, **options: Unpack[Handshake]) -> AsyncIterator[Client]:
        """As in the base class; at the end the application's task for this connection has ended too.

        Raises:
            Refused: The application answered with an HTTP status instead of accepting.
            Closed: It closed with 1011, because something in it failed, and the test has not seen that.
            TimeoutError: It did not answer, or did not end when the client was gone; then it is cancelled.
            Exception: What the application raised and nothing in it caught.
            Undeclared: It has sent something that it does not declare.
        """
        check_path(path)
        check_options(options)
        if self.stopped:
            raise ConnectionRefusedError("the application has been stopped")
        seconds = options.get("timeout_seconds", WAIT_SECONDS)
        port = next(self.client_ports)
        socket = self.open_socket(path, port, options)
        client = Client(socket, seconds, self.declaration_at(path))
        failure: BaseException | None = None
        answered = False
        try:
            with explained(path, seconds):
                async with asyncio.timeout(seconds):
                    headers = all_headers(options.get("headers"), options.get("cookies"))
                    await socket.handshake(headers)
            answered = True
            yield client
        except BaseException as error:
            failure = error
            raise
        finally:
            if answered:
                await client.leave()
            else:
                client.vanish()
            await self.end(client, port, failure)
            if answered:
                await client.check_rest(failure)

    def open_socket(self, path: str, port: int, options: Handshake) -> ClientConnection:
        """A client's end of a connection on which nothing has been said yet."""
        origin = options.get("origin")
        protocol = ClientProtocol(
            parse_uri(f"ws://{HOST}{path}"),
            origin=None if origin is None else Origin(origin),
            subprotocols=[Subprotocol(name) for name in options.get("subprotocols", ())] or None,
            extensions=None
            if options.get("small_buffer")
            else enable_client_permessage_deflate(None),
            max_size=None,
        )
        socket = ClientConnection(
            protocol, close_timeout=CLOSE_SECONDS, max_queue=None, ping_interval=None
        )
        server = self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself does
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        join(server, socket, (HOST, port), (HOST, 80), self.context)
        return socket

    async def end(self, client: Client, port: int, failure: BaseException | None) -> None:
        """Wait until the application has ended with a client that is gone; say what is wrong with it.

        Args:
            failure: What the test fails with anyhow.
        """
        problem: BaseException | None = None
        seconds = client.timeout_seconds
        call = self.application.calls.pop(port, None)
        if call is None or call.task is None:
            return
        if (place := await wait_ended(call.task, seconds)) is not None:
            problem = TimeoutError(
                f"the application had not ended {seconds} s after its client was gone: {place}"
            )
        crashed = call.close is not None and call.close.code == INTERNAL_ERROR
        if call.crash is not None:
            problem = call.crash
            if isinstance(failure, Exception):
                raise problem  # most likely the test has failed because of it
        elif crashed and client.close_seen != INTERNAL_ERROR:
            closed = ConnectionClosed(call.close, None)
            problem = Closed(closed, "and the test has not seen it; the log says why")
        if problem is not None:
            fail(problem, failure)

    def stop(self) -> None:
        self.stopped = True
        for connection in list(self.server_state.connections):
            # NOTE: uvicorn raises where a connection is closing already.
            if not connection.transport.is_closing():
                connection.shutdown()

    async def stop_in_order(self, seconds: float) -> None:
        """Close what is open, and cancel what has not ended at the end of uvicorn's grace period."""
        self.stop()
        if tasks := set(self.server_state.tasks):
            _, pending = await asyncio.wait(tasks, timeout=self.config.timeout_graceful_shutdown)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending, timeout=seconds)


@asynccontextmanager
async def run(
    app: Any,
    *,
    timeout_seconds: float = STEP_SECONDS,
    check_contract: bool = False,
    **options: Any,
) -> AsyncIterator[Running]:
    """Run an ASGI application in this process, without a port; its lifespan too.

    Between client and application stand uvicorn's own protocol classes, so it behaves as it does there.

    Args:
        app: The application.
        timeout_seconds: How long its start and its stop may take, each.
        check_contract: Whether a client fails with ``Undeclared`` that is sent what the resource does
            not declare.
        options: More options of ``uvicorn.Config``, such as ``ws=PushProtocol``.

    Raises:
        RuntimeError: Its start or its stop failed, or it has asked its server to stop.
        TimeoutError: It took too long.
    """
    declaration_at = declarations(app if check_contract else None)
    config = uvicorn.Config(app, **{**SETTINGS, "log_config": None, **options})
    config.load()
    application = Application(config.loaded_app)
    running = InProcess(config, application, declaration_at)
    lifespan = living(config.loaded_app, running.app_state, timeout_seconds)
    config.loaded_app = application
    with sigterm_stops(running.stop):
        async with lifespan:
            try:
                yield running
            finally:
                await running.stop_in_order(timeout_seconds)
