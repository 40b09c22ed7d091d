"""Checks of sent messages against the contract of their resource."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from falcon.routing import CompiledRouter

from ..app import App
from ..contract import Contract
from ..messages import ENCODER
from .envelope import decode, decode_or_none, preview, type_of

# Private use by applications (RFC 6455, section 7.4.2).
APPLICATION_CLOSE_CODES = range(4000, 5000)

FindDeclaration = Callable[[str], "Declaration | None"]


class Undeclared(AssertionError):
    """An application sent a message or a close code that its resource does not declare."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """The messages and close codes that the clients of a path may receive."""

    contract: Contract

    def check_message(self, data: str | bytes) -> None:
        """Check that a message is declared.

        Raises:
            Undeclared: The type is not declared, or the payload does not match the class.
        """
        name = self.contract.name
        if isinstance(data, bytes):
            if not self.contract.sends_binary:
                raise Undeclared(
                    f"{name} sent the binary message {preview(data)}: add bytes to {name}.sends"
                )
            return
        message = decode_or_none(data)
        message_type = type_of(message)
        declared = self.contract.sends.get(message_type) if isinstance(message_type, str) else None
        if declared is None:
            raise Undeclared(
                f"{name} sent {preview(data)}, whose type {message_type!r} it does not declare: add the"
                f" message's class to {name}.sends"
            )
        try:
            # NOTE: messages of a room with history have a position and a time, and replies a reference.
            others = {"id", "at", "ref"} if self.contract.has_positions else {"ref"}
            if self.contract.has_rooms:
                others = others | {"room"}
            if message.keys() - others != {"type", "payload"}:
                raise ValueError(f"it has {', '.join(message)} instead of type and payload")
            known = decode(ENCODER.encode(msgspec.convert(message["payload"], declared)))
            del known[declared.__struct_config__.tag_field]
            if unknown := list(unknown_fields(message["payload"], known)):
                raise ValueError(f"it has no field {', '.join(unknown)}")
        except ValueError as error:
            raise Undeclared(
                f"{name} sent {preview(data)}, which does not fit {declared.__name__} ({error}): send an"
                f" instance of the class, or change the class"
            ) from None

    def check_close(self, code: int) -> None:
        """Check that the application may close with a code.

        Raises:
            Undeclared: The code is between 4000 and 4999, and not declared.
        """
        if code in APPLICATION_CLOSE_CODES and code not in self.contract.closes:
            name = self.contract.name
            raise Undeclared(f"{name} closed with {code}: add it with its meaning to {name}.closes")


def declarations(app: Any) -> FindDeclaration:
    """Return a function that finds the declaration of the resource at a path.

    Args:
        app: The application; ``None`` for no declarations.

    Raises:
        TypeError: The application is not a result of ``install()``.
    """
    if app is None:
        return lambda _: None
    if not isinstance(app, App):
        raise TypeError(
            f"{app!r} has no contract to check: pass the result of falcon_pachinko.install()"
        )
    router = CompiledRouter()
    router.options.converters.update(app.router_options.converters)
    for route in app.ws_routes:
        router.add_route(route.uri_template, Declaration(route.contract))

    def find(path: str) -> Declaration | None:
        found = router.find(path.partition("?")[0])
        return found[0] if found and isinstance(found[0], Declaration) else None

    return find


def unknown_fields(sent: Any, known: Any, path: str = "") -> Iterator[str]:
    """Yield the paths in a payload at which the class has no field."""
    if isinstance(sent, dict) and isinstance(known, dict):
        for name, value in sent.items():
            field = f"{path}.{name}".removeprefix(".")
            if name in known:
                yield from unknown_fields(value, known[name], field)
            else:
                yield field
    elif isinstance(sent, list) and isinstance(known, list):
        for number, (value, other) in enumerate(zip(sent, known, strict=False)):
            yield from unknown_fields(value, other, f"{path}[{number}]")
