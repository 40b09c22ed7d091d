"""The text of a new resource and of its tests. Nothing here reads or writes a file.

The layout is the one that ``ruff format`` gives at 100 characters a line: where a name could make a line
too long, the brackets are open and end with a comma, which keeps them so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from string import Template

LINE_LENGTH = 100

# What a field can be: its annotation, what the reader is told to try first and second, as the client
# writes them, and the first as source code.
FIELD_TYPES = {
    "": ("str", "general", "another", '"general"'),
    "int": ("int", "1", "2", "1"),
    "uuid": (
        "UUID",
        "0b7e4a1c-93c2-4d5e-8f60-1a2b3c4d5e6f",
        "9c1d2e3f-4a5b-4c6d-9e7f-8a9b0c1d2e3f",
        '"0b7e4a1c-93c2-4d5e-8f60-1a2b3c4d5e6f"',
    ),
}

RESOURCE = Template('''\
"""The $words: what happens on one connection to ${one_of_them}."""

from __future__ import annotations

from typing import Annotated
$uuid_import
import falcon.asgi
import msgspec

$framework_import

from ..auth import User
from ..messages import ${error_import}CLOSE_CODES, NOT_SIGNED_IN, Text, UserName

# Rooms are named with this in front: those of all resources share one manager, and no prefix may
# begin with another one.
ROOM_PREFIX = $prefix
$field_types

class Tell$name(msgspec.Struct, frozen=True):
    """Payload of ``clientTell$name``: say something to everybody in the $words."""

    text: Text


class Server${name}Told(Message, frozen=True):
    """A user has said something to everybody in the $words."""

    user: UserName
    text: Text


class ${name}Resource(WebSocketResource):
    """One user's connection to $a $words. A fresh object serves each connection."""

    sends = (Server${name}Told,)
    closes = CLOSE_CODES

    user: User
    room: str

$signature
        """Let users who are signed in into the $words."""
        caller: User | None = req.context.user
        if caller is None:
            raise Reject(NOT_SIGNED_IN, "sign in first")
$empty_checks        self.user = caller
        self.room = $room
        self.connection.user = caller.name
$join
        return True

    @handles_message("clientTell$name")
    async def tell(self, ws: WebSocketLike, payload: Tell$name) -> None:
        """Say something to everybody in the $words, the sender too."""
        await self.broadcast_to_room(
            self.room,
            Server${name}Told(user=self.user.name, text=payload.text),
        )
''')

FIELD_TYPE = Template("""
$alias = Annotated[
    $type,
    msgspec.Meta(
        description="$description",
        examples=[$example],
    ),
]
""")

EMPTY_CHECK = Template("""\
        if not $field:
            raise Reject(BAD_ROOM_NAME, "$field is empty")
""")

SIGNATURE = Template("""\
    async def on_connect(
        self,
        req: falcon.asgi.Request,
        ws: WebSocketLike,
$parameters    ) -> bool:""")
SIGNATURE_WITHOUT_FIELDS = (
    "    async def on_connect(self, req: falcon.asgi.Request, ws: WebSocketLike) -> bool:"
)

JOIN = """\
        try:
            await self.join_room(self.room)
        except InvalidRoomName:
            reason = "no room can have this name: it is too long or has control characters"
            raise Reject(BAD_ROOM_NAME, reason) from None"""
JOIN_WITHOUT_FIELDS = "        await self.join_room(self.room)"

TESTS = Template('''\
"""The $words: what one says, everybody in it hears."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from falcon_pachinko import ServerError, testing
from falcon_pachinko.testing import Running
from falcon_pachinko.testing.fixtures import OpenClient

from $package import auth
$messages_import
$own_import

PATH = "$path"
$other_path
Enter = Callable[..., Awaitable[testing.Client]]


@pytest.fixture
def enter(chat: Running, open_client: OpenClient, secret: str) -> Enter:
    """Connect to $a $words inside this process as somebody."""

    async def enter(name: str, path: str = PATH) -> testing.Client:
        cookies = {auth.COOKIE_NAME: auth.issue_token(auth.User(name), secret, 60)}
        return await open_client(chat, path, cookies=cookies)

    return enter


async def test_everybody_in_it_hears_what_one_says(enter: Enter) -> None:
    alice, bob = await enter("Alice"), await enter("Bob")
    said = Tell$name(text="Hello!")
    await alice.send("clientTell$name", said)
    for client in (alice, bob):
        heard = await client.receive(Server${name}Told)
        assert heard == Server${name}Told(user="Alice", text="Hello!")

$isolation
async def test_a_text_that_is_empty_is_refused_and_the_connection_lives(enter: Enter) -> None:
    alice = await enter("Alice")
    await alice.send("clientTell$name", {"text": ""})
    refused = await alice.receive(ServerError)
    assert (refused.code, refused.field) == ("invalidPayload", "text")
    said = Tell$name(text="Again")
    await alice.send("clientTell$name", said)
    assert (await alice.receive(Server${name}Told)).text == "Again"


async def test_who_is_not_signed_in_sees_why(chat: Running, open_client: OpenClient) -> None:
    stranger = await open_client(chat, PATH)
    assert await stranger.wait_closed() == (NOT_SIGNED_IN, "sign in first")
$bad_names''')

ISOLATION = Template("""
async def test_who_is_in_another_one_hears_nothing(enter: Enter) -> None:
    alice, bob = await enter("Alice"), await enter("Bob", OTHER_PATH)
    said = Tell$name(text="Hello!")
    await alice.send("clientTell$name", said)
    await alice.receive(Server${name}Told)
    await bob.send("clientTell$name", said)
    heard = await bob.receive(Server${name}Told)
    assert heard.user == "Bob"

""")

BAD_NAMES = Template("""

@pytest.mark.parametrize("name", $bad_names, ids=$what_is_bad)
async def test_a_bad_name_is_refused(enter: Enter, name: str) -> None:
    path = f"$path"
    refused = await enter("Alice", path)
    assert (await refused.wait_closed())[0] == BAD_ROOM_NAME
""")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a path: its name, and Falcon's converter (``int``, ``uuid``) or nothing."""

    name: str
    converter: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that makes one new resource differ from another; it has been checked.

    Attributes:
        package: The project's package.
        name: In CamelCase, such as ``GameRoom``.
        path: The URI template, such as ``/ws/games/{game_id}``.
        fields: Those of the path, in order.
        prefix: What the resource's rooms are named with in front.
    """

    package: str
    name: str
    path: str
    fields: tuple[Field, ...]
    prefix: str

    @property
    def module(self) -> str:
        """``game_room`` for ``GameRoom``."""
        return snake_case(self.name)

    @property
    def words(self) -> str:
        """``game room`` for ``GameRoom``."""
        return self.module.replace("_", " ")

    def resource(self) -> str:
        """The source of the resource and its messages."""
        aliases = aliases_of(self)
        fields = [FIELD_TYPES[field.converter] for field in self.fields]
        text = RESOURCE.substitute(
            self.names(),
            one_of_them="one of them" if self.fields else "it",
            uuid_import="from uuid import UUID\n" if "UUID" in {each[0] for each in fields} else "",
            framework_import=import_line(
                "falcon_pachinko",
                (
                    *(["InvalidRoomName"] if self.fields else []),
                    *("Message", "Reject", "WebSocketLike", "WebSocketResource", "handles_message"),
                ),
            ),
            error_import="BAD_ROOM_NAME, " if self.fields else "",
            prefix=string_literal(self.prefix),
            field_types="".join(
                FIELD_TYPE.substitute(
                    alias=aliases[field.name],
                    type=FIELD_TYPES[field.converter][0],
                    description=description_of(field, self.words),
                    example=FIELD_TYPES[field.converter][3],
                )
                for field in self.fields
            ),
            signature=SIGNATURE.substitute(
                parameters="".join(
                    f"        {field.name}: {aliases[field.name]},\n" for field in self.fields
                )
            )
            if self.fields
            else SIGNATURE_WITHOUT_FIELDS,
            empty_checks="".join(
                EMPTY_CHECK.substitute(field=field.name)
                for field in self.fields
                if self.can_be_empty(field)
            ),
            room=self.room(),
            join=JOIN if self.fields else JOIN_WITHOUT_FIELDS,
        )
        return text if self.fields else text.replace("\nfrom typing import Annotated\n", "")

    def tests(self) -> str:
        """The source of the tests, which run the service inside their process."""
        said = next((field for field in reversed(self.fields) if not field.converter), None)
        bad_names = ""
        if said is not None:
            empty = self.can_be_empty(said)
            bad_names = BAD_NAMES.substitute(
                path=self.example(said.name, "{name}"),
                bad_names='["", "x" * 200]' if empty else '["x" * 200]',
                what_is_bad='["empty", "too long"]' if empty else '["too long"]',
            )
        return TESTS.substitute(
            self.names(),
            messages_import=import_line(
                f"{self.package}.messages",
                (*(["BAD_ROOM_NAME"] if said else []), "NOT_SIGNED_IN"),
            ),
            own_import=import_line(
                f"{self.package}.resources.{self.module}",
                (f"Server{self.name}Told", f"Tell{self.name}"),
            ),
            path=self.example(),
            other_path=f'OTHER_PATH = "{self.example(second=True)}"\n' if self.fields else "",
            isolation=ISOLATION.substitute(self.names()) if self.fields else "",
            bad_names=bad_names,
        )

    def can_be_empty(self, field: Field) -> bool:
        """Whether a client can leave it out; Falcon's router ignores slashes at the beginning of a path."""
        return not field.converter and not self.path.startswith(f"/{{{field.name}}}/")

    def names(self) -> dict[str, str]:
        """What all the templates ask for."""
        article = "an" if self.name[0] in "AEIOU" else "a"
        return {"a": article, "name": self.name, "package": self.package, "words": self.words}

    def room(self) -> str:
        """The expression of a room's name. A slash cannot be in a field, so no two rooms share a name."""
        if not self.fields:
            return 'ROOM_PREFIX + "everybody"'
        if len(self.fields) == 1 and not self.fields[0].converter:
            return f"ROOM_PREFIX + {self.fields[0].name}"
        fields = "/".join("{" + field.name + "}" for field in self.fields)
        room = 'f"{ROOM_PREFIX}' + fields + '"'
        # As the formatter does: in brackets where that makes it fit.
        if len(f"        self.room = {room}") > LINE_LENGTH >= len(f"            {room}"):
            room = f"(\n            {room}\n        )"
        return room

    def example(self, name: str = "", value: str = "", *, second: bool = False) -> str:
        """A path that a client connects to; one field may be given."""
        path = self.path
        for field in self.fields:
            shown = value if field.name == name else FIELD_TYPES[field.converter][1 + second]
            written = f"{field.name}:{field.converter}" if field.converter else field.name
            path = path.replace("{" + written + "}", shown)
        return path


def snake_case(name: str) -> str:
    """``GameRoom`` gives ``game_room``, ``HTTPRoom2`` gives ``http_room2``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def aliases_of(blueprint: Blueprint) -> dict[str, str]:
    """A name for the type of each field: ``GameId`` for ``game_id``, and none that stands for another thing."""
    taken = {"Annotated", "InvalidRoomName", "Message", "Reject", "Text", "UUID", "User"}
    taken |= {"UserName", "WebSocketLike", "WebSocketResource"}
    name = blueprint.name
    taken |= {f"{name}Resource", f"Tell{name}", f"Server{name}Told"}
    taken |= {field.name for field in blueprint.fields}
    found: dict[str, str] = {}
    for field in blueprint.fields:
        alias = "".join(part[:1].upper() + part[1:] for part in field.name.split("_"))
        while alias in taken:
            alias += "Field"
        taken.add(alias)
        found[field.name] = alias
    return found


def description_of(field: Field, words: str) -> str:
    """What the contract says of a field."""
    what = field.name.replace("_", " ")
    text = f"The {what} of the {words}"
    return text + (f": {field.converter}." if field.converter else ", percent-encoded.")


def import_line(module: str, names: Iterable[str], line_length: int = LINE_LENGTH) -> str:
    """The import of these names, which are in order, on one line if it fits."""
    names = tuple(names)
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= line_length:
        return line
    return "\n".join((f"from {module} import (", *(f"    {name}," for name in names), ")"))


def string_literal(text: str) -> str:
    """A string of one line as source code, with the quotes that need fewer backslashes, else double ones."""
    escaped = text.replace("\\", "\\\\")
    if text.count('"') > text.count("'"):
        return "'" + escaped.replace("'", "\\'") + "'"
    return '"' + escaped.replace('"', '\\"') + '"'
