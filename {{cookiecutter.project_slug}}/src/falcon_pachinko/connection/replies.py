"""Replies: what a handler returns, or its error, with the ``ref`` of the request."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from ..errors import RegistrationError
from ..messages import ENCODER, MAX_REF_CHARACTERS, Message, ServerAck, ServerError
from ..publication import Publication
from .websocket_like import WebSocketLike

logger = logging.getLogger(__name__)


class Request(msgspec.Struct):
    """The parts of an inbound message that its reply refers to, whether the rest is valid or not."""

    type: Any = ""
    ref: Any = msgspec.UNSET
    room: Any = msgspec.UNSET


class EncodedReply(msgspec.Struct, frozen=True):
    """An encoded message, which has been checked and is sent as the reply; empty for ``serverAck``."""

    data: bytes


REQUEST_DECODER = msgspec.json.Decoder(Request)


def request_of(message: str | bytes) -> Request:
    """Return the type and the ``ref`` of any inbound message, empty and unset if they are missing or not valid, and its room."""
    if isinstance(message, bytes):
        return Request()
    try:
        request = REQUEST_DECODER.decode(message)
    except (ValueError, RecursionError):
        return Request()
    if not isinstance(request.type, str):
        request.type = ""
    if not isinstance(request.ref, str) or not 1 <= len(request.ref) <= MAX_REF_CHARACTERS:
        request.ref = msgspec.UNSET
    return request


def reply_types_of(handler: Callable[..., Any]) -> tuple[type[Message], ...]:
    """Return the classes of the replies that a handler may return, with ``ServerAck`` for ``None`` and no annotation.

    Raises:
        RegistrationError: The annotation is anything but ``None``, a ``Message`` subclass, or a union of these.
    """
    annotation = get_type_hints(handler).get("return", None)
    is_union = get_origin(annotation) in (Union, types.UnionType)
    found = []
    for each in get_args(annotation) if is_union else (annotation,):
        if each is None or each is type(None):
            each = ServerAck
        if not isinstance(each, type) or not issubclass(each, Message) or each is Message:
            raise RegistrationError(
                f"{handler.__qualname__} returns {annotation!r}: a handler returns None, a class derived from"
                " Message, or a union of these"
            )
        found.append(each)
    return tuple(found)


async def send_reply(
    ws: WebSocketLike,
    name: str,
    reply: Any,
    reply_types: tuple[type[Message], ...],
    ref: str | msgspec.UnsetType,
) -> None:
    """Send what a handler has returned: a message with the ``ref`` of the request, or ``serverAck`` for nothing.

    Args:
        ws: The connection; nothing is sent if it is closed.
        name: The name of the resource class, for the log.
        reply: The result of the handler.
        reply_types: The classes that the handler may return.
        ref: The ``ref`` of the request; without one, nothing is acknowledged.
    """
    if type(reply) is EncodedReply:
        await send_encoded(ws, reply.data or Publication(ServerAck()).data, ref)
    else:
        await send_with_ref(ws, checked(name, reply, reply_types), ref)


def checked(name: str, reply: Any, reply_types: tuple[type[Message], ...]) -> Message:
    """Return the message that a handler has returned, or an error in place of one that it does not declare."""
    if reply is None:
        reply = ServerAck()
    if type(reply) in reply_types:
        message: Message = reply
        return message
    logger.error(
        "%s: a handler returned %.200r, which its return annotation does not name", name, reply
    )
    return ServerError(code="internal", error="This could not be done.")


async def send_error(
    ws: WebSocketLike,
    code: str,
    text: str,
    message: str | bytes | None = None,
    *,
    field: str | msgspec.UnsetType = msgspec.UNSET,
) -> None:
    """Send ``serverError`` unless the connection is closed; further messages of the client are still handled.

    Args:
        ws: The connection.
        code: The identifier for programs.
        text: The sentence for the user.
        message: The message of the client that it replies to, whose ``ref`` it gets.
        field: The path of the invalid value in the payload.
    """
    ref = msgspec.UNSET if message is None else request_of(message).ref
    await send_with_ref(ws, ServerError(code=code, error=text, field=field), ref)


async def send_with_ref(ws: WebSocketLike, message: Message, ref: str | msgspec.UnsetType) -> None:
    """Send a message with the ``ref`` of a request, unless the connection is closed."""
    if ref is msgspec.UNSET and not ws.closed:
        await ws.send_media(message)
    else:
        await send_encoded(ws, Publication(message).data, ref)


async def send_encoded(ws: WebSocketLike, data: bytes, ref: str | msgspec.UnsetType) -> None:
    """Send an encoded message with the ``ref`` of a request, unless the connection is closed."""
    if ws.closed:
        return
    end = "}" if ref is msgspec.UNSET else f',"ref":{ENCODER.encode(ref).decode()}}}'
    await ws.send_text(data[:-1].decode() + end)
