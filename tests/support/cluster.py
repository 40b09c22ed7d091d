"""Nodes of the service as processes, and chat clients that reconnect like the browser client."""

import contextlib
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .http_requests import request
from .processes import WAIT_SECONDS, listens, running, wait_until


class Node:
    """One process of the service on a fixed port, which can be started several times."""

    def __init__(
        self, number: int, port: int, command: list[str], folder: Path, environment: dict[str, str]
    ) -> None:
        self.port = port
        self.folder = folder / f"node{number}"
        self.folder.mkdir()
        self.command = command
        self.environment = environment | {"APP_PORT": str(port)}

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the process; the context begins when the node is ready."""
        with running(self.command, self.folder, self.environment) as process:
            wait_until(lambda: listens(self.port) and self.ready, process, self.log)
            yield process

    @property
    def log(self) -> Path:
        return self.folder / f"{Path(self.command[0]).name}.log"

    @property
    def ready(self) -> bool:
        return request(self.port, "GET", "/ready").status == 200

    @property
    def accepted(self) -> int:
        """The number of WebSockets accepted since the last start."""
        return len(re.findall(r'"WebSocket .*\[accepted\]', self.log.read_text("utf-8")))


class ChatClient:
    """A user's client in the room, with all messages it has received."""

    def __init__(self, user: str, port: int) -> None:
        self.user = user
        self.port = port
        response = request(port, "POST", "/session", {"name": user})
        assert response.status == 201, response
        self.token = json.loads(response.body)["token"]
        self.received: list[dict[str, Any]] = []
        self.refusals = 0
        self.socket: ClientConnection

    @property
    def position(self) -> str | None:
        return next((each["id"] for each in reversed(self.received) if "id" in each), None)

    async def connect(self) -> None:
        """Connect, or reconnect from the last position, after each 502 again.

        A caller bounds the time; ``refusals`` counts the 502s.
        """
        query = []
        if self.position is not None:
            [first, *_] = [each for each in self.received if each["type"] == "serverPosition"]
            connection = first["payload"]["connection"]
            query = [("since", self.position), ("connection", connection)]
        url = f"ws://127.0.0.1:{self.port}/ws/chat/general?{urllib.parse.urlencode(query)}"
        while True:
            try:
                self.socket = await connect(
                    url,
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    open_timeout=WAIT_SECONDS,
                    proxy=None,
                )
                break
            except InvalidStatus as error:
                if error.response.status_code != 502:
                    raise
                self.refusals += 1
        await self.receive("serverPosition")

    async def send_text(self, text: str) -> None:
        message = {"type": "clientSendMessage", "payload": {"text": text}}
        await self.socket.send(json.dumps(message))

    async def receive(self, message_type: str, **payload: object) -> dict[str, Any]:
        """Receive up to the next message of this type with these fields, and return it."""
        while True:
            message: dict[str, Any] = json.loads(await self.socket.recv())
            self.received.append(message)
            if message["type"] == message_type and payload.items() <= message["payload"].items():
                return message

    async def receive_until_closed(self) -> int | None:
        """Receive the rest, and return the close code."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.received.append(json.loads(await self.socket.recv()))
        return self.socket.close_code

    def announcements_of(self, user: str) -> list[str]:
        """Return the types of the received join and leave messages of a user."""
        edges = ("serverUserJoined", "serverUserLeft")
        announced = [each for each in self.received if each["type"] in edges]
        return [each["type"] for each in announced if each["payload"]["user"] == user]

    @property
    def texts(self) -> list[str]:
        return [
            each["payload"]["text"] for each in self.received if each["type"] == "serverNewMessage"
        ]
