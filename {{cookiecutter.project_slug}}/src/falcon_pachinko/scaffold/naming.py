"""What a new resource can be called, where it can be served, and how its rooms can begin.

Each check says what is wrong, with the value, and what would be right. Nothing here reads a file.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

from falcon.routing import CompiledRouter

from ..errors import ScaffoldError
from .blueprint import FIELD_TYPES, Field, snake_case

# So that no line of what is written is too long.
NAME_LIMIT_CHARACTERS = 32
FIELD_LIMIT_CHARACTERS = 32
PREFIX_LIMIT_BYTES = 40
# What on_connect speaks of: a field of this name would stand for it.
TAKEN_FIELDS = frozenset(
    {"BAD_ROOM_NAME", "InvalidRoomName", "NOT_SIGNED_IN", "ROOM_PREFIX", "Reject", "User"}
    | {"bool", "caller", "falcon", "reason", "req", "self", "ws"}
)
# Windows cannot make files of these names, whatever their extension.
DEVICES = frozenset(
    {"aux", "con", "nul", "prn"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)


def check_name(name: str) -> None:
    """Whether a class and a module can be named so.

    Raises:
        ScaffoldError: They cannot.
    """
    if re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) is None or len(name) > NAME_LIMIT_CHARACTERS:
        raise ScaffoldError(
            f"the name {name!r} cannot be used: give a CamelCase name of 1 to"
            f" {NAME_LIMIT_CHARACTERS} ASCII letters and digits, such as GameRoom"
        )
    if name.endswith("Resource"):
        shorter = name.removesuffix("Resource") or "GameRoom"
        raise ScaffoldError(
            f"the name {name!r} ends with Resource, which is added by itself: give {shorter}"
        )
    module = snake_case(name)
    if keyword.iskeyword(name) or keyword.iskeyword(module) or module in DEVICES:
        raise ScaffoldError(
            f"the name {name!r} cannot be used, for {module!r} is a word of Python or a device of"
            f" Windows: give another one, such as {name}Room"
        )
    if name == "WebSocket":
        raise ScaffoldError(
            "the name 'WebSocket' cannot be used, for WebSocketResource is the base of all resources:"
            " give another one, such as GameRoom"
        )


def fields_of(path: str) -> tuple[Field, ...]:
    """The fields of a path.

    Raises:
        ScaffoldError: It is no path that can be served.
    """
    found: list[Field] = []
    if not path.startswith("/"):
        raise ScaffoldError(f"the path {path!r} does not begin with a slash: give {'/' + path!r}")
    for part in path[1:].split("/"):
        field = re.fullmatch(r"{([^{}:]*)(?::(\w+))?}", part)
        if field is None:
            if re.fullmatch(r"[A-Za-z0-9._~-]+", part) is None or part in {".", ".."}:
                raise ScaffoldError(
                    f"the path {path!r} has the part {part!r}: give parts of letters, digits, '-', '.',"
                    " '_' and '~', or a field such as {game_id}"
                )
            continue
        name, converter = field[1], field[2] or ""
        if (
            re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is None
            or len(name) > FIELD_LIMIT_CHARACTERS
            or keyword.iskeyword(name)
        ):
            raise ScaffoldError(
                f"the path {path!r} has the field {name!r}: give a Python name of 1 to"
                f" {FIELD_LIMIT_CHARACTERS} ASCII letters, digits and '_', such as game_id"
            )
        if name in TAKEN_FIELDS:
            raise ScaffoldError(
                f"the path {path!r} has the field {name!r}, which on_connect calls something else:"
                f" give another name, such as {name.lower()}_id"
            )
        if converter not in FIELD_TYPES:
            raise ScaffoldError(
                f"the path {path!r} has the converter {converter!r}: leave it out, or give int or uuid"
            )
        if name in {each.name for each in found}:
            raise ScaffoldError(
                f"the path {path!r} has the field {name!r} twice: rename one of them"
            )
        found.append(Field(name, converter))
    return tuple(found)


def check_route(path: str, routes: Iterable[tuple[str, str]]) -> None:
    """Whether Falcon can serve the path, and nothing else is served there.

    Raises:
        ScaffoldError: It cannot, or something is.
    """
    router = CompiledRouter()
    for method, other in routes:
        if method == "add_static_route":
            overlaps = f"{path}/".startswith(other.rstrip("/") + "/")
        else:
            overlaps = paths_overlap(path, other)
        if overlaps:
            raise ScaffoldError(
                f"the path {path!r} is taken by {other!r}: give another one with --path"
            )
        if method in {"add_route", "add_websocket_route"}:
            try:
                router.add_route(other, object())
            except ValueError:
                continue  # it needs something of the project's, such as a converter
    try:
        router.add_route(path, object())
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ScaffoldError(
            f"the path {path!r} cannot be served beside the others ({reason}): give another one with"
            " --path"
        ) from error


def paths_overlap(one: str, other: str) -> bool:
    """Whether an address can belong to both templates."""
    parts, others = one.split("/"), other.split("/")
    if ":path}" in other:
        parts = parts[: len(others)]
    return len(parts) == len(others) and all(
        part == each or "{" in part or "{" in each for part, each in zip(parts, others, strict=True)
    )


def check_prefix(prefix: str, taken: dict[str, str]) -> str:
    """Return the prefix if rooms can have it and nobody else has.

    Raises:
        ScaffoldError: They cannot, or somebody has.
    """
    is_line = not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in prefix
    )
    if not is_line or not 1 <= len(prefix.encode()) <= PREFIX_LIMIT_BYTES:
        raise ScaffoldError(
            f"the prefix {prefix!r} cannot be used: give 1 to {PREFIX_LIMIT_BYTES} bytes of UTF-8 without"
            " control characters"
        )
    for other, where in taken.items():
        if prefix.startswith(other) or other.startswith(prefix):
            raise ScaffoldError(
                f"the prefix {prefix!r} and {other!r} ({where}) begin alike, so rooms could get mixed up:"
                " give another one with --prefix"
            )
    return prefix


def free_prefix(module: str, taken: dict[str, str]) -> str:
    """A prefix that begins with no other one, nor the other way round.

    Raises:
        ScaffoldError: None of those that come to mind is free.
    """
    fronts = ("", "room:", "ws:", "a:", "z:", "0:", "_:")
    for prefix in (f"{front}{module}:" for front in fronts):
        if not any(prefix.startswith(other) or other.startswith(prefix) for other in taken):
            return prefix
    return check_prefix(f"{module}:", taken)
