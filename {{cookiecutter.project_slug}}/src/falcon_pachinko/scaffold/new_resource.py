"""A new resource: checks of its name, path and room prefix, and its text from ``templates/``."""

from __future__ import annotations

import contextlib
import keyword
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template

from falcon.routing import CompiledRouter

from ..errors import ScaffoldError
from ..names import fault_of_name

UUIDS = "0b7e4a1c-93c2-4d5e-8f60-1a2b3c4d5e6f", "9c1d2e3f-4a5b-4c6d-9e7f-8a9b0c1d2e3f"
# By the converter of a field: its type and two example values.
FIELD_TYPES = {"": ("str", "general", "another"), "int": ("int", 1, 2), "uuid": ("UUID", *UUIDS)}
# Names that on_connect uses: a parameter must not shadow them.
RESERVED = "BAD_ROOM_NAME NOT_SIGNED_IN ROOM_PREFIX Reject User caller check_room_name req self ws"
WINDOWS_DEVICE = re.compile(r"aux|con|nul|prn|(com|lpt)[1-9]")
# Leaves space for the client's part of a name.
MAX_PREFIX_BYTES = 40

CONDITION = re.compile(r"^#if (\w+)\n(.*?)(?:^#else\n(.*?))?^#end\n", re.DOTALL | re.MULTILINE)


def snake_case(name: str) -> str:
    """Return ``game_room`` for ``GameRoom``, ``http_room2`` for ``HTTPRoom2``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def check_name(name: str) -> None:
    """Refuse a name that does not suit a class and a module."""
    refused, module = f"the name {name!r} cannot be used", snake_case(name)
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]{0,31}", name):
        raise ScaffoldError(f"{refused}: give 1 to 32 ASCII letters and digits, such as GameRoom")
    if name.endswith("Resource"):
        raise ScaffoldError(f"{refused}: Resource is appended, give {name[:-8] or 'GameRoom'}")
    if {name, module} & {*keyword.kwlist, "WebSocket"} or WINDOWS_DEVICE.fullmatch(module):
        reason = f"{name}Resource or {module}.py is reserved by Python, Windows or the framework"
        raise ScaffoldError(f"{refused}, {reason}: give another one, such as {name}Room")


def fields_of(path: str) -> dict[str, str]:
    """Return the fields of a URI template in order, each with its converter or an empty text."""
    refused, fields = f"the path {path!r} cannot be used", dict[str, str]()
    if not path.startswith("/"):
        raise ScaffoldError(f"{refused}: begin with a slash, give {'/' + path!r}")
    for part in path[1:].split("/"):
        field = re.fullmatch(r"(?!\.\.?$)[A-Za-z0-9._~-]+|{([^{}:]*)(?::(\w+))?}", part)
        if field is None:
            advice = "give ASCII letters, digits, '-._~' or a field such as {game_id}"
            raise ScaffoldError(f"{refused}, it has the part {part!r}: {advice}")
        name, converter, problem = field[1], field[2] or "", ""
        if name is None:
            continue
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name) or keyword.iskeyword(name):
            problem = ": give a Python name of 1 to 32 ASCII characters, such as game_id"
        elif name in RESERVED.split():
            problem = f", a name that on_connect uses: give another one, such as {name.lower()}_id"
        elif converter not in FIELD_TYPES:
            problem = f" with the converter {converter!r}: give int or uuid, or none"
        elif name in fields:
            problem = " twice: rename one of them"
        if problem:
            raise ScaffoldError(f"{refused}, it has the field {name!r}{problem}")
        fields[name] = converter
    return fields


def check_route(path: str, routes: Iterable[tuple[str, str]]) -> None:
    """Refuse a path that overlaps another route, or that Falcon cannot serve beside the others."""
    router, advice = CompiledRouter(), "give another one with --path"
    for method, other in routes:
        below = f"{path}/".startswith(other.rstrip("/") + "/")
        if below if method == "add_static_route" else paths_overlap(path, other):
            raise ScaffoldError(f"the path {path!r} is taken by {other!r}: {advice}")
        if method in {"add_route", "add_websocket_route"}:
            with contextlib.suppress(ValueError):  # a converter of the project, for example
                router.add_route(other, object())
    try:
        router.add_route(path, object())
    except ValueError as error:
        reason = "cannot be served beside the others, " + " ".join(str(error).split())
        raise ScaffoldError(f"the path {path!r} {reason}: {advice}") from error


def paths_overlap(one: str, other: str) -> bool:
    """Return whether one URL can match both URI templates."""
    parts, others = one.split("/"), other.split("/")
    if ":path}" in other:
        parts = parts[: len(others)]
    pairs = zip(parts, others, strict=False)
    return len(parts) == len(others) and all(a == b or "{" in a + b for a, b in pairs)


def choose_prefix(prefix: str | None, module: str, taken: dict[str, str]) -> str:
    """Return the given prefix, or one made of the module's name; ``taken`` has places by prefix."""

    def conflicts(wanted: str) -> list[str]:
        return [other for other in taken if wanted.startswith(other) or other.startswith(wanted)]

    if prefix is None:
        choices = [f"{front}{module}:" for front in ("", "room:", "ws:", "a:", "z:", "0:", "_:")]
        prefix = next((choice for choice in choices if not conflicts(choice)), choices[0])
    elif fault := fault_of_prefix(prefix):
        raise ScaffoldError(f"the prefix {prefix!r} cannot be used: it {fault}")
    for other in conflicts(prefix):
        refused = f"the prefix {prefix!r} and {other!r} ({taken[other]}) begin alike"
        raise ScaffoldError(f"{refused}, rooms could be confused: give another one with --prefix")
    return prefix


def fault_of_prefix(prefix: str) -> str:
    """Return why a room name cannot begin with a prefix of 1 to 40 bytes; empty if it can."""
    if not 1 <= len(prefix.encode("utf-8", "replace")) <= MAX_PREFIX_BYTES:
        return f"must have 1 to {MAX_PREFIX_BYTES} bytes of UTF-8"
    return fault_of_name(f"{prefix}x", MAX_PREFIX_BYTES + 1)


def render(package: str, name: str, path: str, fields: dict[str, str], prefix: str) -> list[str]:
    """Return the texts of the resource and of its tests, which Ruff has yet to format."""
    words = snake_case(name).replace("_", " ")
    texts = [field for field, converter in fields.items() if not converter]
    # Falcon's router ignores slashes at the beginning of a path: a text there is never empty.
    optional = [field for field in texts if not path.startswith(f"/{{{field}}}/")]
    check = "        check_room_name({0})\n"
    parameters = ""
    for field, converter in fields.items():
        kind, example, _ = FIELD_TYPES[converter]
        note = f": {converter}." if converter else ", percent-encoded."
        description = f"The {field.replace('_', ' ')} of the {words}{note}"
        meta = f"msgspec.Meta(description={description!r}, examples=[{example!r}])"
        parameters += f"        {field}: Annotated[{kind}, {meta}],\n"
    plain = re.sub(r":\w+", "", path)
    first, second = ({f: FIELD_TYPES[fields[f]][number] for f in fields} for number in (1, 2))
    values = {
        "checks": "".join(map(check.format, texts)),
        "lengths": [0, 200] if texts[-1:] == optional[-1:] else [200],
        "module": snake_case(name),
        "named_path": texts and plain.format_map(first | {texts[-1]: "{name}"}),
        "other_path": plain.format_map(second),
        "parameters": parameters,
        "path": plain.format_map(first),
        "prefix": repr(prefix),
        # No field contains a slash, so different fields give different rooms.
        "room": "/".join(f"{{{field}}}" for field in fields) or "everyone",
    }
    rendered = []
    for template in ("resource.py.txt", "test_resource.py.txt"):
        text = (Path(__file__).with_name("templates") / template).read_text("utf-8")
        text = CONDITION.sub(lambda part: part[2] if values[part[1]] else part[3] or "", text)
        rendered.append(Template(text).substitute(values, name=name, package=package, words=words))
    return rendered
