"""A raw connection for checks, which compares each message that it receives with the protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ...messages import MAX_REF_CHARACTERS
from ..handshake import DirectConnect
from ..positions import POSITION

MAX_RECEIVED_BYTES = 16 * 1024 * 1024
PREVIEW_CHARACTERS = 120


class Failed(Exception):
    """A server does not follow the protocol; the text names the difference."""


class Skipped(Exception):
    """A check does not apply to a server; the text names the reason."""


@dataclass(frozen=True)
class Target:
    """The server, and what the command line says about it.

    Attributes:
        url: A ``ws:`` or ``wss:`` URL.
        headers: Headers of each handshake.
        timeout_seconds: The bound of each wait for an answer.
        max_message_bytes: The largest message that the server accepts.
        send: A message that the room broadcasts to its sender, as a pair of type and payload; ``None`` for none.
        is_any_origin_allowed: Whether pages of any origin may connect.
        is_quick: Whether checks that wait for a heartbeat are skipped.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 5.0
    max_message_bytes: int = 65_536
    send: tuple[str, Any] | None = None
    is_any_origin_allowed: bool = False
    is_quick: bool = False


class Peer:
    """A connection to the server.

    Attributes:
        messages: All messages that were received, in order.
    """

    def __init__(self, target: Target, connection: ClientConnection) -> None:
        self.target = target
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.references = itertools.count(1)

    async def send(self, message: object) -> None:
        """Send an object as JSON, or a text as it is."""
        text = message if isinstance(message, str) else json.dumps(message)
        try:
            await self.connection.send(text)
        except ConnectionClosed as closed:
            raise Failed(f"the connection is closed: {closed}") from None

    @asynccontextmanager
    async def within(
        self, purpose: str, timeout_seconds: float | None = None
    ) -> AsyncIterator[None]:
        """Bound a wait, by default for as long as any answer may take."""
        seconds = self.target.timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise Failed(f"{purpose} did not arrive within {seconds:g} s") from None

    async def receive(self, purpose: str) -> dict[str, Any]:
        """Return the next message, after comparing its envelope with the protocol; the caller bounds the wait."""
        try:
            data = await self.connection.recv()
        except ConnectionClosed as closed:
            raise Failed(f"the connection ended before {purpose}: {closed}") from None
        message = check_envelope(data)
        self.messages.append(message)
        return message

    async def receive_type(self, kind: str, timeout_seconds: float | None = None) -> dict[str, Any]:
        """Wait for the next message of a type."""
        async with self.within(kind, timeout_seconds):
            while (message := await self.receive(kind))["type"] != kind:
                pass
        return message

    async def reply_to(self, reference: str) -> dict[str, Any]:
        """Wait for the next message with a reference, which must be this one."""
        purpose = f"the reply to {reference!r}"
        async with self.within(purpose):
            while (message := await self.receive(purpose)).get("ref") is None:
                pass
        if message["ref"] != reference:
            raise Failed(f"expected {purpose}, got {preview(message)}")
        return message

    async def ping(self, reference: str | None = None) -> dict[str, Any]:
        """Send ``clientPing`` with a reference and return the reply."""
        reference = f"ping {next(self.references)}" if reference is None else reference
        await self.send({"type": "clientPing", "payload": {}, "ref": reference})
        reply = await self.reply_to(reference)
        if reply["type"] != "serverPong":
            raise Failed(f"expected serverPong, got {preview(reply)}")
        return reply

    async def position(self) -> dict[str, Any]:
        """Wait for the position after the handshake, up to the answer of a ping.

        Raises:
            Skipped: The server sends none: it has neither a history nor a heartbeat here.
        """
        await self.send({"type": "clientPing", "payload": {}, "ref": "joined"})
        found: dict[str, Any] | None = None
        purpose = "the answer to a ping"
        async with self.within(purpose):
            while (message := await self.receive(purpose)).get("ref") != "joined":
                if message["type"] == "serverPosition" and found is None:
                    found = message
        if found is None:
            raise Skipped("the server sends no serverPosition here")
        return found

    async def wait_closed(self, purpose: str) -> int:
        """Wait for the end and return the close code; messages before it are received."""
        try:
            async with asyncio.timeout(self.target.timeout_seconds):
                while True:
                    self.messages.append(check_envelope(await self.connection.recv()))
        except TimeoutError:
            raise Failed(f"the connection was not closed: {purpose}") from None
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def open_peer(
    target: Target,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Peer]:
    """Connect to the server; the connection is closed at the end.

    Args:
        target: The server.
        query: Parameters to add to the URL; a list repeats one.
        headers: Headers in addition to those of the target.

    Raises:
        OSError: The server cannot be reached.
        websockets.exceptions.InvalidHandshake: The handshake is not valid, or refused.
    """
    parts = urlsplit(target.url)
    added = urlencode(query or {}, doseq=True)
    url = urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, added]))))
    async with DirectConnect(
        url,
        additional_headers={**target.headers, **(headers or {})},
        open_timeout=target.timeout_seconds,
        close_timeout=target.timeout_seconds,
        ping_interval=None,
        max_size=MAX_RECEIVED_BYTES,
    ) as connection:
        yield Peer(target, connection)


def check_envelope(data: str | bytes) -> dict[str, Any]:
    """Return a message that has the form of the protocol.

    Raises:
        Failed: It has not.
    """
    if not isinstance(data, str):
        raise Failed(f"a binary frame, where the contract has none: {preview(data)}")
    try:
        message = json.loads(data)
    except ValueError:
        raise Failed(f"a text that is not JSON: {preview(data)}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Failed(f"not an object with a type: {preview(data)}")
    if not isinstance(message.get("payload"), dict):
        raise Failed(f"the payload is not an object: {preview(data)}")
    reference = message.get("ref", "none")
    if not isinstance(reference, str) or not 1 <= len(reference) <= MAX_REF_CHARACTERS:
        raise Failed(
            f"the ref is not a text of 1 to {MAX_REF_CHARACTERS} characters: {preview(data)}"
        )
    if "id" in message and (
        not isinstance(message["id"], str) or POSITION.fullmatch(message["id"]) is None
    ):
        raise Failed(f"the id is not epoch:offset: {preview(data)}")
    if not isinstance(message.get("at", 0), int):
        raise Failed(f"the time is not a whole number: {preview(data)}")
    return message


def preview(found: object) -> str:
    """Return a short text for a message."""
    text = found if isinstance(found, str) else json.dumps(found, default=repr)
    return text if len(text) <= PREVIEW_CHARACTERS else text[:PREVIEW_CHARACTERS] + "..."
