"""The envelopes of inbound messages: a struct for each message type, so that decoding selects the handler."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple, get_origin

import msgspec

from ..messages import Ref
from ..names import display_text

# Longer reasons quote a text of the client.
MAX_REASON_CHARACTERS = 200


class RequestPayload(NamedTuple):
    """The payload of a request whose handler needs its reference, too."""

    payload: Any
    ref: str | msgspec.UnsetType


def envelope_struct(
    message_type: str, payload_type: Any, *, with_ref: bool = False
) -> type[msgspec.Struct]:
    """Make the struct of a message; a payload without required fields may be missing.

    Args:
        message_type: The type.
        payload_type: The annotation of the payload.
        with_ref: Whether its ``payload`` is a :class:`RequestPayload`.
    """
    payload: tuple[Any, ...] = ("body" if with_ref else "payload", payload_type)
    if may_be_missing(payload_type):
        payload = (*payload, msgspec.field(default_factory=payload_type))
    fields = [payload, ("ref", Ref | msgspec.UnsetType, msgspec.UNSET)]
    # PERF: a property, so that the life cycle passes on the payload of any message in one way.
    namespace = {"payload": property(lambda self: RequestPayload(self.body, self.ref))}
    return msgspec.defstruct(
        "Envelope",
        fields,
        tag_field="type",
        tag=message_type,
        frozen=True,
        rename={"body": "payload"} if with_ref else None,
        namespace=namespace if with_ref else None,
    )


def may_be_missing(payload_type: Any) -> bool:
    """Return whether a missing payload counts as ``{}``: a dict, or a struct without required fields."""
    return get_origin(payload_type) is dict or (
        isinstance(payload_type, type)
        and issubclass(payload_type, msgspec.Struct)
        and not any(field.required for field in msgspec.structs.fields(payload_type))
    )


def union_of(types: Iterable[type]) -> Any:
    """Return one type for the decoder."""
    return functools.reduce(operator.or_, types)


def explain(error: Exception) -> tuple[str, str]:
    """Return the expected value and the path in the payload, for a sentence to the client.

    Both may quote the client's own text, such as the name of an unknown field.
    """
    text = str(error)
    reason, found, path = text.rpartition(" - at `$")
    path = path.removesuffix("`").removeprefix(".payload").removeprefix(".")
    if not found:
        reason, path = text, ""
    return display_text(reason, MAX_REASON_CHARACTERS), display_text(path, MAX_REASON_CHARACTERS)
