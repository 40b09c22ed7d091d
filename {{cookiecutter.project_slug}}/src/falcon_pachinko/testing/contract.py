"""Whether what an application sends is what its resources declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from falcon.routing import CompiledRouter

from ..app import App
from ..contract import Contract
from ..messages import ENCODER
from .envelope import decode, shown, type_of

# RFC 6455 section 7.4.2: the codes that are an application's own.
OWN_CLOSE_CODES = range(4000, 5000)


FindDeclaration = Callable[[str], "Declaration | None"]


class Undeclared(AssertionError):
    """An application has sent what its resource does not declare."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What clients of one path may be told."""

    contract: Contract

    def check_message(self, data: str | bytes) -> None:
        """Find out whether a message is declared as it is.

        Raises:
            Undeclared: It is not; the message names the resource, the type, and what to do.
        """
        name = self.contract.name
        if isinstance(data, bytes):
            if not self.contract.sends_binary:
                raise Undeclared(
                    f"{name} sent the binary message {shown(data)}: add bytes to {name}.sends"
                )
            return
        try:
            message = msgspec.json.decode(data)
        except (ValueError, RecursionError):
            message = None
        message_type = type_of(message)
        declared = self.contract.sends.get(message_type) if isinstance(message_type, str) else None
        if declared is None:
            raise Undeclared(
                f"{name} sent {shown(data)}, whose type {message_type!r} it does not declare: add the"
                f" message's class to {name}.sends"
            )
        try:
            # NOTE: in a room with history each message has its position.
            positioned = {"id"} if self.contract.has_positions else set()
            if message.keys() - positioned != {"type", "payload"}:
                raise ValueError(f"it has {', '.join(message)} instead of type and payload")
            known = decode(ENCODER.encode(msgspec.convert(message["payload"], declared)))
            del known[declared.__struct_config__.tag_field]
            if unknown := list(unknown_fields(message["payload"], known)):
                raise ValueError(f"it has no field {', '.join(unknown)}")
        except ValueError as error:
            raise Undeclared(
                f"{name} sent {shown(data)}, which does not fit {declared.__name__} ({error}): send an"
                f" instance of the class, or change the class"
            ) from None

    def check_close(self, code: int) -> None:
        """Find out whether the application may close with a code.

        Raises:
            Undeclared: It is one of an application's own codes, and not declared.
        """
        if code in OWN_CLOSE_CODES and code not in self.contract.closes:
            name = self.contract.name
            raise Undeclared(f"{name} closed with {code}: add it with its meaning to {name}.closes")


def declarations(app: Any) -> FindDeclaration:
    """Make a function that finds, by a path, what the resource that answers there declares.

    Args:
        app: The application; ``None`` where nobody wants to know.

    Raises:
        TypeError: The application has no routes to ask.
    """
    if app is None:
        return lambda _: None
    if not isinstance(app, App):
        raise TypeError(
            f"{app!r} has no contract to check: give what falcon_pachinko.install() returned"
        )
    router = CompiledRouter()
    for route in app.ws_routes:
        router.add_route(route.uri_template, Declaration(route.contract))

    def find(path: str) -> Declaration | None:
        found = router.find(path.partition("?")[0])
        return found[0] if found and isinstance(found[0], Declaration) else None

    return find


def unknown_fields(sent: Any, known: Any, place: str = "") -> Any:
    """The places of a payload at which a class has no field."""
    if isinstance(sent, dict) and isinstance(known, dict):
        for name, value in sent.items():
            where = f"{place}.{name}".removeprefix(".")
            if name in known:
                yield from unknown_fields(value, known[name], where)
            else:
                yield where
    elif isinstance(sent, list) and isinstance(known, list):
        for number, (value, other) in enumerate(zip(sent, known, strict=False)):
            yield from unknown_fields(value, other, f"{place}[{number}]")
