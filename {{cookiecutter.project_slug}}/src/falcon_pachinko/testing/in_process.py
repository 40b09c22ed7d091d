"""An application in the process of the test, on uvicorn's protocols without a socket."""

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
from ..connection.extension import NO_SERVER_EXTENSION
from ..connection.inbox import Event
from .client import WAIT_SECONDS, Client
from .contract import FindDeclaration, declarations
from .errors import Closed, raise_or_note
from .handshake import (
    CLOSE_SECONDS,
    Handshake,
    check_options,
    check_path,
    request_headers,
    translate_errors,
)
from .lifespan import run_lifespan
from .memory import connect_protocols
from .running import LIFESPAN_SECONDS, UVICORN_SETTINGS, Running, stop_on_sigterm
from .tasks import wait_ended

HOST = "127.0.0.1"


class Call:
    """A call of the application for one connection.

    Attributes:
        task: The task that runs the application.
        close: The application's close of the connection.
        error: The exception that the application raised.
    """

    def __init__(self, send: Any) -> None:
        self.server_send = send
        self.task = asyncio.current_task()
        self.close: Close | None = None
        self.error: BaseException | None = None

    async def send(self, event: Event) -> None:
        """Send an event, and record a close."""
        if event["type"] == "websocket.close":
            self.close = Close(event.get("code", 1000), event.get("reason") or "")
        await self.server_send(event)


class Application:
    """The application, with its calls by the port of the client."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.calls: dict[int, Call] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        call = self.calls[scope["client"][1]] = Call(send)
        scope.setdefault("extensions", {})[NO_SERVER_EXTENSION] = {}
        try:
            return await self.app(scope, receive, call.send)
        except (ClientDisconnected, asyncio.CancelledError):
            raise  # ordinary ends of a connection
        except BaseException as error:
            call.error = error
            raise


class InProcess(Running):
    """An application served by uvicorn's protocol classes, with memory in place of a socket.

    Args:
        config: uvicorn's configuration, loaded.
        application: The application in the configuration.
        declaration_at: Finds the declaration of a path.
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
        """Connect a client; at the end wait for the application's task of the connection too.

        Raises:
            Refused: The application rejected the handshake with an HTTP status.
            Closed: The application closed with 1011 after an error, which the test did not observe.
            TimeoutError: The application did not respond, or did not end after the client.
            Exception: The application raised an exception.
            Undeclared: The application sent an undeclared message or close code.
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
            with translate_errors(path, seconds):
                async with asyncio.timeout(seconds):
                    headers = request_headers(options.get("headers"), options.get("cookies"))
                    await socket.handshake(headers)
            answered = True
            yield client
        except BaseException as error:
            failure = error
            raise
        finally:
            if answered:
                await client.aclose()
            else:
                client.vanish()
            await self.wait_application_ended(client, port, failure)
            if answered:
                await client.check_unread(failure)

    def open_socket(self, path: str, port: int, options: Handshake) -> ClientConnection:
        """Return the client's end of a new connection, before the handshake."""
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
        # NOTE: uvicorn calls it so, with arguments that the declared base class does not have.
        protocol_class: Any = self.config.http_protocol_class
        server = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        connect_protocols(server, socket, (HOST, port), (HOST, 80), self.context)
        return socket

    async def wait_application_ended(
        self, client: Client, port: int, failure: BaseException | None
    ) -> None:
        """Wait for the application's task of a disconnected client, and raise its errors.

        Args:
            client: The client.
            port: Its port, the key of the call.
            failure: The error that the test fails with.
        """
        problem: BaseException | None = None
        seconds = client.timeout_seconds
        call = self.application.calls.pop(port, None)
        if call is None or call.task is None:
            return
        if (position := await wait_ended(call.task, seconds)) is not None:
            problem = TimeoutError(
                f"the application did not end {seconds} s after its client disconnected: {position}"
            )
        failed = call.close is not None and call.close.code == INTERNAL_ERROR
        if call.error is not None:
            problem = call.error
            if isinstance(failure, Exception):
                raise problem  # the probable cause of the test's failure
        elif failed and client.reported_close_code != INTERNAL_ERROR:
            closed = ConnectionClosed(call.close, None)
            problem = Closed(closed, "and the test did not observe it; see the log")
        if problem is not None:
            raise_or_note(problem, failure)

    def stop(self) -> None:
        self.stopped = True
        for connection in list(self.server_state.connections):
            # NOTE: uvicorn raises if the connection is already closing.
            if not connection.transport.is_closing():
                connection.shutdown()

    async def stop_gracefully(self, seconds: float) -> None:
        """Close all connections, and cancel their tasks after uvicorn's grace period."""
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
    timeout_seconds: float = LIFESPAN_SECONDS,
    check_contract: bool = False,
    **options: Any,
) -> AsyncIterator[Running]:
    """Run an ASGI application and its lifespan in this process, without a port.

    uvicorn's protocol classes connect client and application, so the behaviour is that of uvicorn.

    Args:
        app: The application.
        timeout_seconds: The bound of the startup, and of the shutdown.
        check_contract: Whether an undeclared message fails the client that receives it with
            ``Undeclared``.
        options: Options of ``uvicorn.Config``, such as ``ws=PushProtocol``.

    Raises:
        RuntimeError: The startup or the shutdown failed, or the application requested a shutdown.
        TimeoutError: The startup or the shutdown took too long.
    """
    declaration_at = declarations(app if check_contract else None)
    config = uvicorn.Config(app, **{**UVICORN_SETTINGS, "log_config": None, **options})
    config.load()
    application = Application(config.loaded_app)
    running = InProcess(config, application, declaration_at)
    lifespan = run_lifespan(config.loaded_app, running.app_state, timeout_seconds)
    config.loaded_app = application
    with stop_on_sigterm(running.stop):
        async with lifespan:
            try:
                yield running
            finally:
                await running.stop_gracefully(timeout_seconds)
