"""Requests of handlers to their own client, whose replies are taken before the inbox."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import msgspec
from falcon import WebSocketDisconnected

from ..errors import RequestError
from ..messages import CLIENT_REPLY, ENCODER, ClientReply, ReplyPayload, size_bytes_of
from .inbox import Inbox, Message
from .websocket_like import WebSocketLike

DECODER = msgspec.json.Decoder(ClientReply)


class ClientRequests:
    """The requests to one client that have no reply yet.

    A handler that waits for its own client would wait for itself if the reply stood in the inbox, behind the message
    that the handler is busy with. Therefore the inbox offers each message to :meth:`take` when it is read.

    Args:
        inbox: The inbox of the client.
    """

    __slots__ = ("inbox", "numbers", "waiting")

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.numbers = itertools.count(1)
        self.waiting: dict[str, asyncio.Future[ReplyPayload]] = {}

    async def ask(
        self, ws: WebSocketLike, message_type: str, payload: object, timeout_seconds: float
    ) -> ReplyPayload:
        """Send a request, and wait for its reply.

        Raises:
            RequestError: There is no reply in time.
            ValueError: The time is not above zero, or not finite.
            falcon.WebSocketDisconnected: The connection is closed, or has been meanwhile.
        """
        if not 0 < timeout_seconds < math.inf:
            raise ValueError(f"timeout_seconds is {timeout_seconds!r}: give a number above zero")
        ref = f"server:{next(self.numbers)}"
        text = ENCODER.encode({"type": message_type, "payload": payload, "ref": ref}).decode()
        reply: asyncio.Future[ReplyPayload] = asyncio.get_running_loop().create_future()
        self.waiting[ref] = reply
        self.inbox.expect_reply(self.take)
        try:
            async with asyncio.timeout(timeout_seconds):
                await ws.send_text(text)
                return await reply
        except TimeoutError:
            raise RequestError("Your device did not respond in time.", code="timeout") from None
        finally:
            self.waiting.pop(ref, None)
            reply.cancel()

    def take(self, message: Message) -> bool:
        """Return whether a message is the reply to one of the requests; it is not handled any further then."""
        # PERF: most messages are not decoded twice.
        if not self.waiting or not isinstance(message, str) or CLIENT_REPLY not in message:
            return False
        if size_bytes_of(message) > self.inbox.limits.max_message_bytes:
            return False
        try:
            reply = DECODER.decode(message)
        except (ValueError, RecursionError):
            return False
        future = self.waiting.pop(reply.request, None)
        if future is not None and not future.done():
            future.set_result(reply.payload)
        return future is not None

    def fail(self, close_code: int | None) -> None:
        """End all requests: the connection is closed."""
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(WebSocketDisconnected(close_code))
                # Its handler may have ended meanwhile: asyncio would log an exception that nothing has retrieved.
                future.exception()


def result_of(reply: ReplyPayload, message_type: str, result_type: Any) -> Any:
    """Decode the result of a reply.

    Raises:
        RequestError: The client has answered with an error, or with a result of another type.
    """
    if reply.code:
        raise RequestError(reply.error, code=reply.code)
    try:
        return msgspec.convert(reply.result, result_type, str_keys=True)
    except (ValueError, RecursionError) as error:
        text = f"The reply to {message_type} is not valid: {error}."
        raise RequestError(text, code="invalidReply") from None
