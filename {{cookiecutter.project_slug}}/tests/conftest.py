"""Fixtures of all tests: settings, the service in this or another process, and clients."""

from __future__ import annotations

import asyncio
import asyncio.constants
import functools
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from falcon_pachinko import testing
from falcon_pachinko.messages import ServerPosition
from falcon_pachinko.names import display_name
from falcon_pachinko.testing import Running
from falcon_pachinko.testing.contract import Declaration
from falcon_pachinko.testing.shell import clean_environment

from {{ cookiecutter.package_name }} import app, settings, tokens
from {{ cookiecutter.package_name }}.__main__ import WEBSOCKET_OPTIONS
from {{ cookiecutter.package_name }}.users import User

if TYPE_CHECKING:
    from falcon_pachinko.testing.fixtures import OpenClient, RunApp

pytest_plugins = ["falcon_pachinko.testing.fixtures"]

# The bound of every wait; no step takes nearly as long, even on a busy machine.
WAIT_SECONDS = 20.0

PACKAGE = settings.__name__.partition(".")[0]
SOURCES = Path(settings.__file__).parents[1]
SECRET = "a-secret-that-only-these-tests-have-0123456789"

# The framework's default for a room with history.
HEARTBEAT_SECONDS = 20

MakeSettings = Callable[..., settings.Settings]
HeadersOf = Callable[..., dict[str, str]]
Join = Callable[..., Awaitable[testing.Client]]


class Client(testing.Client):
    """A connection to one room, like that of a browser tab."""

    users: Sequence[str] = ()
    connection: str = ""

    async def expect(self, message_type: str, **payload: object) -> None:
        """Assert the type and the payload of the next message, ignoring its position, id, time, and heartbeats.

        A user is given by name, which is the id as well.
        """
        if "user" in payload:
            payload["userId"] = payload["user"]
        heartbeat = {"heartbeatSeconds": HEARTBEAT_SECONDS}
        while (message := await self.receive())["payload"] == heartbeat:
            pass
        message.pop("id", None)
        message.pop("at", None)
        message["payload"].pop("messageId", None)
        assert message == {"type": message_type, "payload": payload}


class Server:
    """The service in a process of its own, with its output."""

    def __init__(self, process: subprocess.Popen[str], websocket_path: str) -> None:
        self.process = process
        self.websocket_path = websocket_path
        self.url = ""
        self.may_print_tracebacks = False
        self.lines: list[str] = []
        self.printed = threading.Condition()
        # NOTE: a full pipe would block the service, so a thread reads it.
        self.reader = threading.Thread(target=self.read_output, daemon=True)
        self.reader.start()

    def read_output(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.printed:
                self.lines.append(line)
                self.printed.notify_all()
        with self.printed:
            self.printed.notify_all()

    def output(self) -> str:
        """Return the output of the process so far."""
        with self.printed:
            return "".join(self.lines)

    def wait_serving(self) -> None:
        """Wait until the service has printed its address."""
        deadline = time.monotonic() + WAIT_SECONDS
        with self.printed:
            while not (found := re.search(r"running on (http://\S+)", "".join(self.lines))):
                assert self.process.poll() is None, f"the service has ended:\n{''.join(self.lines)}"
                assert self.printed.wait(deadline - time.monotonic()), "the service does not start"
        self.url = found[1]

    async def wait_ended(self) -> int:
        """Wait for the end of the process and of its output; return its status."""

        def wait() -> int:
            status = self.process.wait(WAIT_SECONDS)
            self.reader.join(WAIT_SECONDS)
            return status

        # NOTE: in a thread, because clients in this process take part in the shutdown.
        return await asyncio.to_thread(wait)

    def stop(self) -> None:
        """Terminate the process, and kill it if it does not end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(WAIT_SECONDS)
        self.reader.join(WAIT_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def ws_url(self) -> str:
        """The WebSocket URL without the name of a room."""
        return self.url.replace("http:", "ws:", 1) + self.websocket_path

    async def sign_in(self, name: str) -> str:
        """Sign in by name and return the token."""
        async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
            response = await client.post(f"{self.url}/session", json={"name": name})
        assert response.status_code == 201, response.text
        token: str = response.json()["token"]
        return token

    @asynccontextmanager
    async def connect(
        self,
        room: str,
        token: str | None = None,
        *,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        query: str = "",
    ) -> AsyncIterator[Client]:
        """Connect to a room, with a token or a query such as ``?ticket=...``; nothing has been received yet."""
        path = f"{self.websocket_path}/{quote(room, safe='')}"
        async with testing.connect(
            self.url.replace("http:", "ws:", 1) + path + query,
            declaration=declaration_at()(path),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            cookies=cookies,
            origin=origin,
            timeout_seconds=WAIT_SECONDS,
            ping_interval=None,
        ) as client:
            yield Client(client.socket, WAIT_SECONDS, client.declaration)

    @asynccontextmanager
    async def join(self, name: str, room: str) -> AsyncIterator[Client]:
        """Sign in, connect to a room, and receive its first three messages."""
        async with self.connect(room, await self.sign_in(name)) as client:
            welcome = f"Welcome {display_name(name)} to room '{display_name(room)}'!"
            await client.expect("serverSystemMessage", text=welcome)
            state = await client.receive()
            assert state["type"] == "serverRoomState"
            assert state["payload"].keys() == {"users", "you", "count"}
            assert state["payload"]["you"] == {"user": name, "userId": name}
            client.users = [user["user"] for user in state["payload"]["users"]]
            position = await client.receive()
            assert position["type"] == "serverPosition"
            client.connection = position["payload"]["connection"]
            yield client


def token_of(
    name: str, *roles: str, environment: str = "test", seconds: float = 60, secret: str = SECRET
) -> str:
    """Return a session token of a user with this name as the id, too."""
    made = tokens.Tokens(
        [secret],
        issuer=PACKAGE,
        environment=environment,
        lifetime_seconds=seconds,
        session_seconds=3600,
    )
    return made.start(User(id=name, name=name, roles=frozenset(roles)))[0]


@functools.cache
def declaration_at() -> Callable[[str], Declaration | None]:
    """Return a function from a path to its declared messages, for clients of another process."""
    return testing.declarations(app.create_app(settings.Settings.model_construct()))


@contextmanager
def running(
    folder: Path, websocket_path: str, command: tuple[str, ...], variables: dict[str, str]
) -> Iterator[Server]:
    """Run the service in a folder, with an environment of its own."""
    inherited = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in inherited if name in os.environ} | {
        "PYTHONPATH": str(SOURCES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "APP_ENVIRONMENT": "test",
        "APP_PORT": "0",
        "APP_SECRET": SECRET,
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *(command or ("-m", PACKAGE))],
        cwd=folder,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    server = Server(process, websocket_path)
    try:
        yield server
    finally:
        server.stop()
    assert server.may_print_tracebacks or "Traceback" not in server.output(), server.output()


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Remove from the environment what the shell sets for other programs, and the settings."""
    clean_environment([settings.ENV_PREFIX])


@pytest.fixture(scope="session", autouse=True)
def short_origins() -> Iterator[None]:
    """Let asyncio's debug mode keep 3 frames of the origin of each task and callback."""
    # PERF: its 10 frames take a quarter of the time of the quick tests.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.constants, "DEBUG_STACK_DEPTH", 3)
        yield


@pytest.fixture(scope="session")
def check_contract() -> bool:
    """Let a client fail if it receives an undeclared message."""
    return True


@pytest.fixture(scope="session")
def secret() -> str:
    """The secret of all tests."""
    return SECRET


@pytest.fixture(scope="session")
def headers_of() -> HeadersOf:
    """Return the headers of a signed-in user, who may have roles."""

    def headers_of(name: str, *roles: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(name, *roles)}"}

    return headers_of


@pytest.fixture
def make_settings() -> MakeSettings:
    """Create settings for tests from some values; no file is read."""

    def make_settings(**given: Any) -> settings.Settings:
        # NOTE: Falcon's test client names a host of its own.
        values: dict[str, Any] = {"_env_file": None, "environment": "test", "secret": SECRET}
        values["allowed_hosts"] = ["falconframework.org", "127.0.0.1", "localhost"]
        values |= {"state_folder": ""} | given
        return settings.Settings(**values)

    return make_settings


@pytest.fixture(scope="session")
def websocket_path() -> str:
    """The path of the chat's WebSocket route, without the name of a room."""
    application = app.create_app(settings.Settings.model_construct())
    resource_class = "{{ cookiecutter.__resource_class }}"
    [template] = [
        route.uri_template
        for route in application.ws_routes
        if route.resource_class.__name__ == resource_class and not route.contract.has_rooms
    ]
    return template.removesuffix("/{room_name}")


@pytest.fixture
def room() -> str:
    """The name of a room that no other test uses."""
    return uuid.uuid4().hex


@pytest.fixture
async def chat(run_app: RunApp, make_settings: MakeSettings) -> Running:
    """The service inside the test process, without a port."""
    return await run_app(app.create_app(make_settings()), **WEBSOCKET_OPTIONS)


@pytest.fixture
def join(
    chat: Running, open_client: OpenClient, headers_of: HeadersOf, websocket_path: str, room: str
) -> Join:
    """Connect a user to the room inside the test process, and receive the first messages."""

    async def join(name: str, **options: Any) -> testing.Client:
        path, headers = f"{websocket_path}/{room}", headers_of(name)
        client = await open_client(chat, path, headers=headers, **options)
        await client.receive_until(ServerPosition)
        return client

    return join


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, websocket_path: str) -> Iterator[Server]:
    """A service in a process of its own; tests share it, each with its own rooms."""
    with running(tmp_path_factory.mktemp("server"), websocket_path, (), {}) as server:
        server.wait_serving()
        yield server


@pytest.fixture
def start(tmp_path: Path, websocket_path: str) -> Iterator[Callable[..., Server]]:
    """Start the service with some settings, or another Python command, without waiting."""
    with ExitStack() as stack:

        def start(*command: str, **variables: str) -> Server:
            return stack.enter_context(running(tmp_path, websocket_path, command, variables))

        yield start


@pytest.fixture
def serve(start: Callable[..., Server]) -> Callable[..., Server]:
    """Start the service with some settings and wait until it serves."""

    def serve(*command: str, **variables: str) -> Server:
        server = start(*command, **variables)
        server.wait_serving()
        return server

    return serve
