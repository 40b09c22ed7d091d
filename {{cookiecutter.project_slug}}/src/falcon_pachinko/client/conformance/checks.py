"""The checks: each is a sentence of the protocol, and a conversation that tests it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.exceptions import InvalidStatus

from .peer import Failed, Peer, Skipped, Target, open_peer, preview

Check = Callable[[Target], Awaitable[None]]

FOREIGN_ORIGIN = "https://conformance.invalid"
ORDERED_REQUESTS = 20
MISSED_MESSAGES = 3
# Of a heartbeat: a server may be late while many clients connect.
HEARTBEAT_FACTOR, HEARTBEAT_MARGIN_SECONDS = 2.0, 5.0
# The key is the sentence that the command prints.
CHECKS: dict[str, Check] = {}


def check(sentence: str) -> Callable[[Check], Check]:
    """Add a check."""

    def add(function: Check) -> Check:
        CHECKS[sentence] = function
        return function

    return add


@check("a request has one reply with its reference")
async def one_reply(target: Target) -> None:
    async with open_peer(target) as peer:
        for reference in ("1", "ü🎉", "x" * 64):
            await peer.ping(reference)
        repeated = [each for each in peer.messages if each.get("ref") == "1"]
        if len(repeated) != 1:
            raise Failed(f"{len(repeated)} replies to one request")


@check("replies are in the order of their requests")
async def ordered_replies(target: Target) -> None:
    async with open_peer(target) as peer:
        for number in range(ORDERED_REQUESTS):
            await peer.send({"type": "clientPing", "payload": {}, "ref": str(number)})
        for number in range(ORDERED_REQUESTS):
            await peer.reply_to(str(number))


@check("a message without a reference has no reply with one")
async def no_reference(target: Target) -> None:
    async with open_peer(target) as peer:
        await peer.send({"type": "clientPing", "payload": {}})
        pong = await peer.receive_type("serverPong")
        if "ref" in pong:
            raise Failed(f"a reference that the client has not sent: {preview(pong)}")


@check("an unknown message is answered with serverError and its reference")
async def unknown_message(target: Target) -> None:
    async with open_peer(target) as peer:
        unknown = {"type": "clientConformance", "payload": {"a": [None]}, "ref": "unknown"}
        await peer.send(unknown)
        check_error(await peer.reply_to("unknown"))
        await peer.ping()


@check("a reference that is not valid is refused, and the connection stays open")
async def invalid_reference(target: Target) -> None:
    async with open_peer(target) as peer:
        for reference in (7, "", "x" * 65):
            await peer.send({"type": "clientPing", "payload": {}, "ref": reference})
            error = await peer.receive_type("serverError")
            if "ref" in error:
                raise Failed(f"an error with a reference: {preview(error)}")
            check_error(error)
        await peer.ping()


@check("a text that is not valid JSON does not end the connection")
async def invalid_json(target: Target) -> None:
    async with open_peer(target) as peer:
        for text in ("{", "[]", "null", '"text"', '{"type": 1}', "[" * 10_000):
            await peer.send(text)
            await peer.ping()


@check("a message in fragments is one message, and ping frames are answered")
async def frames(target: Target) -> None:
    async with open_peer(target) as peer:
        text = json.dumps({"type": "clientPing", "payload": {}, "ref": "parts"})
        await peer.connection.send([text[:10], text[10:20], text[20:]])
        await peer.reply_to("parts")
        pong = await peer.connection.ping(b"conformance")
        try:
            async with asyncio.timeout(target.timeout_seconds):
                await pong
        except TimeoutError:
            raise Failed("a ping frame was not answered") from None


@check("a message above the bound closes with 1009")
async def too_large(target: Target) -> None:
    async with open_peer(target) as peer:
        await peer.ping()
        payload = {"padding": "x" * target.max_message_bytes}
        await peer.send({"type": "clientPing", "payload": payload, "ref": "large"})
        code = await peer.wait_closed(f"a message has more than {target.max_message_bytes} bytes")
        if code != 1009:
            raise Failed(f"the close code is {code}, not 1009")


@check("a close of the client is confirmed with its code")
async def close_handshake(target: Target) -> None:
    async with open_peer(target) as peer:
        await peer.ping()
        await peer.connection.close(4321, "done")
        protocol = peer.connection.protocol
        code = protocol.close_rcvd.code if protocol.close_rcvd is not None else 1006
        if code != 4321:
            raise Failed(f"the server's close frame has the code {code}, not 4321")


@check("a page of a foreign origin is refused with HTTP 403")
async def foreign_origin(target: Target) -> None:
    if target.is_any_origin_allowed:
        raise Skipped("any origin is allowed")
    try:
        async with open_peer(target, headers={"Origin": FOREIGN_ORIGIN}):
            pass
    except InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise Failed(f"HTTP {refused.response.status_code}, not 403") from None
        return
    raise Failed(f"the server accepts {FOREIGN_ORIGIN}")


@check("the position after a join names the connection, and a first visit recovers nothing")
async def first_position(target: Target) -> None:
    ids = set()
    for _ in range(2):
        async with open_peer(target) as peer:
            payload = (await peer.position())["payload"]
        if not isinstance(payload.get("connection"), str) or not payload["connection"]:
            raise Failed(f"no id of the connection: {preview(payload)}")
        if "recovered" in payload:
            raise Failed(f"recovered on a first visit: {preview(payload)}")
        ids.add(payload["connection"])
    if len(ids) != 2:
        raise Failed("two connections have the same id")


@check("an idle client gets its position again within the announced time")
async def heartbeat(target: Target) -> None:
    async with open_peer(target) as peer:
        position = await peer.position()
        seconds = position["payload"].get("heartbeatSeconds")
        if seconds is None:
            raise Skipped("the server announces no heartbeat")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
            raise Failed(f"heartbeatSeconds is {seconds!r}")
        if target.is_quick:
            raise Skipped(f"it takes {seconds:g} s")
        bound = HEARTBEAT_FACTOR * seconds + HEARTBEAT_MARGIN_SECONDS
        repeated = await peer.receive_type("serverPosition", bound)
        if "connection" in repeated["payload"]:
            raise Failed(f"a heartbeat with a connection: {preview(repeated)}")
        if ("id" in repeated) is not ("id" in position):
            raise Failed(f"the heartbeat has another form: {preview(repeated)}")


@check("a client that has missed nothing recovers")
async def nothing_missed(target: Target) -> None:
    async with open_peer(target) as other:
        first = position_of(await other.position())
        async with open_peer(target, {"since": first}) as peer:
            position = await peer.position()
            expect_recovered(position, is_expected=True)


@check("a position that the server does not know is not recovered")
async def unknown_position(target: Target) -> None:
    async with open_peer(target) as peer:
        position_of(await peer.position())
    for since in ("conformance:1", "conformance"):
        async with open_peer(target, {"since": since}) as peer:
            expect_recovered(await peer.position(), is_expected=False)


@check("messages of a room have consecutive positions and a time")
async def consecutive_positions(target: Target) -> None:
    async with open_peer(target) as peer:
        first = position_of(await peer.position())
        sent = [await broadcast(peer) for _ in range(MISSED_MESSAGES)]
        epoch, offset = split(first)
        for message in sent:
            found, next_offset = split(position_of(message))
            if found == epoch and next_offset <= offset:
                raise Failed(f"{message['id']} does not follow {epoch}:{offset}")
            if found != epoch:
                raise Failed(f"the epoch changed from {epoch} to {found}")
            if not message.get("at"):
                raise Failed(f"no time of publication: {preview(message)}")
            offset = next_offset
        if split(sent[-1]["id"])[1] - split(sent[0]["id"])[1] != MISSED_MESSAGES - 1:
            ids = [message["id"] for message in sent]
            raise Failed(f"the offsets have a gap, or others send to this room: {ids}")


@check("a reconnecting client gets what it has missed, in order and once, before its position")
async def recovery(target: Target) -> None:
    async with open_peer(target) as other:
        position_of(await other.position())
        seen = await broadcast(other)
        missed = [await broadcast(other) for _ in range(MISSED_MESSAGES)]
        async with open_peer(target, {"since": seen["id"]}) as peer:
            position = await peer.receive_type("serverPosition")
            expect_recovered(position, is_expected=True)
            found = [each for each in peer.messages[:-1] if "id" in each]
        expected = [each["id"] for each in missed]
        if [each["id"] for each in found] != expected:
            raise Failed(f"expected {expected}, got {[each['id'] for each in found]}")
        for before, after in zip(missed, found, strict=True):
            if before != after:
                raise Failed(f"{preview(after)} was {preview(before)} before")


# Steps of the checks.


def check_error(error: dict[str, Any]) -> None:
    """Check the form of an error."""
    payload = error["payload"]
    if error["type"] != "serverError":
        raise Failed(f"expected serverError, got {preview(error)}")
    if not (isinstance(payload.get("code"), str) and isinstance(payload.get("error"), str)):
        raise Failed(f"an error without a code and a sentence: {preview(error)}")


def position_of(message: dict[str, Any]) -> str:
    """Return the position of a message."""
    if "id" not in message:
        if message["type"] == "serverPosition":
            raise Skipped("the room has no history")
        raise Failed(f"no position: {preview(message)}")
    return str(message["id"])


def split(position: str) -> tuple[str, int]:
    """Return the epoch and the offset of a position."""
    epoch, _, offset = position.partition(":")
    return epoch, int(offset)


def expect_recovered(position: dict[str, Any], *, is_expected: bool) -> None:
    """Check the outcome of a recovery."""
    found = position["payload"].get("recovered")
    if found is not is_expected:
        raise Failed(f"recovered is {json.dumps(found)}, not {json.dumps(is_expected)}")


async def broadcast(peer: Peer) -> dict[str, Any]:
    """Send the application's message, and return the broadcast of it: the next message with a position."""
    if peer.target.send is None:
        raise Skipped("no message to broadcast was given: --send TYPE JSON")
    kind, payload = peer.target.send
    await peer.send({"type": kind, "payload": payload})
    purpose = f"the broadcast of {kind}"
    async with peer.within(purpose):
        while "id" not in (message := await peer.receive(purpose)) or is_position(message):
            if message["type"] == "serverError":
                raise Failed(f"{kind} was refused: {preview(message)}")
    return message


def is_position(message: dict[str, Any]) -> bool:
    """Return whether a message is the position itself."""
    return bool(message["type"] == "serverPosition")
