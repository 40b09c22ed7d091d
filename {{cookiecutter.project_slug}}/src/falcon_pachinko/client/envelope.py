"""Messages on the wire and as objects of the service's classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..connection.envelope import explain, may_be_missing
from ..contract import Contract
from ..errors import InvalidPayload
from ..messages import ENCODER, SERVER_MESSAGES, Message
from ..resource import WebSocketResource
from ..route_config import DEFAULT_ROUTE_CONFIG

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A received message.

    Attributes:
        type: Its type.
        payload: Its payload as it was received; ``{}`` without one.
        position: The position in the history of its room; ``None`` for a message without one.
        published_ms: When it was published, in Unix milliseconds of the server's clock; ``None`` without a position.
        message: The payload as an object of the registered class; ``None`` if the type has none, or if
            the payload does not match, which is logged.
    """

    type: str
    payload: dict[str, Any]
    position: str | None = None
    published_ms: int | None = None
    message: Message | None = None


class MessageTypes:
    """The messages of a service: those that it sends, by class, and the payloads that it takes.

    Args:
        receives: Classes of messages that the service sends; those of the framework are known.
        resource: The resource class: all messages that it declares, and the payloads of its handlers.
    """

    def __init__(
        self,
        receives: Iterable[type[Message]] = (),
        resource: type[WebSocketResource] | None = None,
    ) -> None:
        self.classes: dict[str, type[Message]] = {**SERVER_MESSAGES}
        self.payload_types: dict[str, Any] | None = None
        if resource is not None:
            contract = Contract.of(resource, DEFAULT_ROUTE_CONFIG.for_class(resource))
            self.classes |= contract.sends
            self.payload_types = contract.handlers.payload_types
        self.classes |= {str(each.__struct_config__.tag): each for each in receives}

    def decode(self, message: Mapping[str, Any]) -> Envelope:
        """Return a decoded message as an envelope."""
        found = self.object_of(message["type"], message["payload"])
        position, at = message.get("id"), message.get("at")
        return Envelope(message["type"], message["payload"], position, at, found)

    def object_of(self, message_type: str, payload: Mapping[str, Any]) -> Message | None:
        """Return the payload as an object of the registered class, if there is one and it matches."""
        found = self.classes.get(message_type)
        if found is None:
            return None
        try:
            return msgspec.convert({**payload, "type": message_type}, found)
        except msgspec.ValidationError as error:
            logger.warning("%s does not match %s: %s", message_type, found.__name__, error)
            return None

    def encode(self, message_type: str, payload: object, **envelope: str) -> str:
        """Encode a message; a payload of ``None`` is ``{}``.

        Raises:
            InvalidPayload: The payload does not match the handler's, or the resource has no handler of this type.
            TypeError: JSON cannot represent it.
            UnicodeEncodeError: A text in it contains half of a surrogate pair, which is not valid JSON.
        """
        payload = {} if payload is None else payload
        if self.payload_types is not None:
            self.check(message_type, payload)
        return ENCODER.encode({"type": message_type, "payload": payload, **envelope}).decode()

    def check(self, message_type: str, payload: object) -> None:
        """Check a payload as the service's handler does."""
        assert self.payload_types is not None, "only with the class of a resource"
        if message_type not in self.payload_types:
            raise InvalidPayload(message_type, "", "the resource has no handler of this type")
        expected = self.payload_types[message_type]
        if payload == {} and may_be_missing(expected):
            return
        try:
            msgspec.json.decode(ENCODER.encode(payload), type=expected)
        except msgspec.ValidationError as error:
            reason, field = explain(error)
            raise InvalidPayload(message_type, field.removeprefix("$."), reason) from None


def decode(data: object) -> dict[str, Any] | None:
    """Return a message with ``type`` (``None`` without a valid one) and ``payload`` (``{}`` without one)."""
    if isinstance(data, dict):
        # The message of a room, decoded with those of its connection.
        return data
    try:
        message = msgspec.json.decode(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    payload, found = message.get("payload"), message.get("type")
    return {
        **message,
        "type": found if isinstance(found, str) else None,
        "payload": payload if isinstance(payload, dict) else {},
    }
