"""A small server of the protocol without the framework, with a fault on request."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

HEARTBEAT_SECONDS = 0.2
MAX_MESSAGE_BYTES = 65_536

# Each fault, with the beginning of the check that detects it.
FAULTS = {
    "no pong": "a request has one reply",
    "a reply twice": "replies are in the order",
    "replies in reverse": "replies are in the order",
    "a reference of its own": "a message without a reference",
    "silence about unknown messages": "an unknown message is answered",
    "any reference": "a reference that is not valid",
    "closes after invalid JSON": "a text that is not valid JSON",
    "no fragments": "a message in fragments",
    "no bound": "a message above the bound",
    "1011 above the bound": "a message above the bound",
    "another close code": "a close of the client",
    "any origin": "a page of a foreign origin",
    "401 for an origin": "a page of a foreign origin",
    "one id for all": "the position after a join",
    "recovered at first": "the position after a join",
    "no heartbeat": "an idle client",
    "a heartbeat with a connection": "an idle client",
    "never recovered": "a client that has missed nothing",
    "always recovered": "a position that the server does not know",
    "offsets with gaps": "messages of a room have consecutive",
    "no time": "messages of a room have consecutive",
    "forgets a message": "a reconnecting client gets",
    "repeats a message": "a reconnecting client gets",
    "wrong order": "a reconnecting client gets",
    "position first": "a reconnecting client gets",
    "payload is a list": "a request has one reply",
    "binary frames": "a request has one reply",
    "position is a number": "the position after a join",
}


class RawServer:
    """One room with a history."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.history: list[dict[str, Any]] = []
        self.connections: set[ServerConnection] = set()
        self.ids = itertools.count(1)

    def check_origin(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Origin" not in request.headers or self.fault == "any origin":
            return None
        return connection.respond(401 if self.fault == "401 for an origin" else 403, "no")

    async def send(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        text = json.dumps(message)
        await connection.send(text.encode() if self.fault == "binary frames" else text)

    def position(self, **payload: Any) -> dict[str, Any]:
        offset = self.history[-1]["id"].partition(":")[2] if self.history else "0"
        position: Any = 1 if self.fault == "position is a number" else f"e:{offset}"
        payload["heartbeatSeconds"] = HEARTBEAT_SECONDS
        return {"type": "serverPosition", "payload": payload, "id": position}

    async def join(self, connection: ServerConnection) -> None:
        """Send what was missed, then the position."""
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        number = 1 if self.fault == "one id for all" else next(self.ids)
        payload: dict[str, Any] = {"connection": str(number)}
        missed: list[dict[str, Any]] = []
        if "since" in query:
            epoch, _, offset = query["since"][0].partition(":")
            payload["recovered"] = epoch == "e" or self.fault == "always recovered"
            if self.fault == "never recovered":
                payload["recovered"] = False
            if epoch == "e":
                missed = [each for each in self.history if int(each["id"][2:]) > int(offset)]
        elif self.fault == "recovered at first":
            payload["recovered"] = True
        if self.fault == "forgets a message":
            missed = missed[1:]
        elif self.fault == "repeats a message":
            missed = missed[:1] + missed
        elif self.fault == "wrong order":
            missed = missed[::-1]
        position = self.position(**payload)
        messages = [position, *missed] if self.fault == "position first" else [*missed, position]
        for message in messages:
            await self.send(connection, message)

    async def beat(self, connection: ServerConnection) -> None:
        """Send heartbeats."""
        while self.fault != "no heartbeat":
            await asyncio.sleep(HEARTBEAT_SECONDS)
            has_connection = self.fault == "a heartbeat with a connection"
            payload = {"connection": "again"} if has_connection else {}
            await self.send(connection, self.position(**payload))

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        beating = asyncio.create_task(self.beat(connection))
        try:
            await self.join(connection)
            pongs: list[dict[str, Any]] = []
            async for text in connection:
                await self.receive(connection, str(text), pongs)
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            beating.cancel()
            await asyncio.wait({beating})

    async def receive(
        self, connection: ServerConnection, text: str, pongs: list[dict[str, Any]]
    ) -> None:
        """Handle a message."""
        if len(text.encode("utf-8", "surrogatepass")) > MAX_MESSAGE_BYTES:
            if self.fault != "no bound":
                await connection.close(1011 if self.fault == "1011 above the bound" else 1009)
            return
        try:
            message = json.loads(text)
            kind = message["type"]
            assert isinstance(kind, str)
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
            if self.fault == "closes after invalid JSON":
                await connection.close(1007)
            else:
                await self.error(connection, "unknownMessage", {})
            return
        reference = message.get("ref")
        extra = {} if reference is None else {"ref": reference}
        is_valid = isinstance(reference, str) and 1 <= len(reference) <= 64
        if reference is not None and not is_valid and self.fault != "any reference":
            await self.error(connection, "invalidPayload", {})
        elif kind == "clientPing":
            await self.pong(connection, extra, pongs)
        elif kind == "clientSay":
            await self.broadcast(message["payload"])
        elif self.fault != "silence about unknown messages":
            await self.error(connection, "unknownMessage", extra)

    async def error(self, connection: ServerConnection, code: str, extra: dict[str, Any]) -> None:
        payload = {"code": code, "error": "No."}
        await self.send(connection, {"type": "serverError", "payload": payload, **extra})

    async def pong(
        self, connection: ServerConnection, extra: dict[str, Any], pongs: list[dict[str, Any]]
    ) -> None:
        """Answer a ping, or collect some to answer them in reverse."""
        payload: Any = [] if self.fault == "payload is a list" else {}
        pong = {"type": "serverPong", "payload": payload, **extra}
        if self.fault == "no pong" or (self.fault == "no fragments" and extra == {"ref": "parts"}):
            return
        if self.fault == "a reference of its own":
            pong.setdefault("ref", "mine")
        pongs.append(pong)
        if self.fault == "replies in reverse" and extra.get("ref") in {"0", "1", "2"}:
            if len(pongs) < 2 and extra.get("ref") == "0":
                return
            pongs.reverse()
        for each in pongs:
            await self.send(connection, each)
            if self.fault == "a reply twice":
                await self.send(connection, each)
        pongs.clear()

    async def broadcast(self, payload: Any) -> None:
        """Publish a message to the room."""
        step = 2 if self.fault == "offsets with gaps" else 1
        number = step * (len(self.history) + 1)
        message = {
            "type": "serverSaid",
            "payload": payload,
            "id": f"e:{number}",
            "at": 1_700_000_000_000,
        }
        if self.fault == "no time":
            del message["at"]
        self.history.append(message)
        for connection in list(self.connections):
            await self.send(connection, message)


class OtherCode(ServerConnection):
    """Confirms a close of its client with another code: its frame is replaced on the way out."""

    def send_data(self) -> None:
        sent = self.protocol.close_sent
        frames = self.protocol.data_to_send()
        if sent is not None:
            # FIN and close, two bytes: 1000 (RFC 6455 section 5.5.1).
            frames = [b"\x88\x02\x03\xe8" if each[:1] == b"\x88" else each for each in frames]
        for data in frames:
            if data:
                self.transport.write(data)
        if sent is not None and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()


@asynccontextmanager
async def raw_server(fault: str = "") -> AsyncIterator[str]:
    """Run the server and yield the URL of its room."""
    room = RawServer(fault)

    async with serve(
        room.handle,
        "127.0.0.1",
        0,
        process_request=room.check_origin,
        max_size=16 * 1024 * 1024,
        create_connection=OtherCode if fault == "another close code" else None,
        compression=None,
        close_timeout=1,
    ) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/room"
