"""The commands of moderators: announcements, bans and mutes, invitations to private rooms, and tokens for programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from falcon_pachinko import PachinkoError
from falcon_pachinko.names import check_room_name
from falcon_pachinko.rooms.enforcement import iso_time

from .admin_client import Processes
from .announcements import PartialAnnouncement, announce_to_rooms
from .app import ROOM_PREFIX
from .contract import server_object
from .invitations import Invitations
from .settings import Settings
from .tokens import Tokens
from .users import User

if TYPE_CHECKING:
    from falcon_pachinko.publisher import Publisher

INVITATION_DAYS = 7.0
RESTRICTING = {
    "ban": "close the connections of a user, and refuse new ones",
    "mute": "refuse the texts of a user",
}
LIFTING = {"unban": "end a ban", "unmute": "end a mute"}


def add_commands(commands: Any) -> None:
    """Add the commands to the subparsers of a parser."""
    for name, text in (RESTRICTING | LIFTING).items():
        parser = commands.add_parser(name, help=text)
        parser.add_argument("user", help="the id of the user")
        parser.add_argument("--room", help="in this room only")
        if name in RESTRICTING:
            parser.add_argument(
                "--seconds", type=float, default=3600.0, help="the duration (default: an hour)"
            )
    parser = commands.add_parser("disconnect", help="close the connections of a user")
    parser.add_argument("user", help="the id of the user")
    commands.add_parser("restrictions", help="list bans and mutes")
    parser = commands.add_parser("invite", help="print a link to a private room")
    parser.add_argument("room", help="the room; its name begins with private-")
    parser.add_argument("--days", type=float, default=INVITATION_DAYS, help="how long it is valid")
    parser = commands.add_parser("token", help="print a session token for a program")
    parser.add_argument("user", help="the id of the user, which is the name as well")
    parser.add_argument("--role", action="append", default=[], help="a role; may be repeated")
    parser.add_argument(
        "--seconds",
        type=int,
        help="how long it is valid unless it is refreshed: APP_TOKEN_LIFETIME_SECONDS by default, and at most",
    )


def announce(settings: Settings, text: str) -> None:
    """Send an announcement to every room of all processes, or of the process that serves without Redis.

    Raises:
        SystemExit: Redis is unavailable, or without Redis no process runs here; the text gives the number of rooms
            reached.
    """
    try:
        with open_service(settings) as service:
            if isinstance(service, Processes):
                reached = service.announce(text)
            else:
                reached = service.run(announce_to_rooms(service.publisher, ROOM_PREFIX, text))
    except PartialAnnouncement as error:
        sys.exit(str(error))
    except PachinkoError as error:
        sys.exit(f"announced to no room: {error}")
    print(f"announced to {reached} rooms")


def run_command(settings: Settings, given: argparse.Namespace) -> None:
    """Run one of the commands.

    Raises:
        SystemExit: An argument is not valid, or Redis is unavailable, or without Redis no process runs here.
    """
    try:
        if given.command == "invite":
            print(invitation_link(settings, given.room, given.days))
        elif given.command == "token":
            token, until = program_token(settings, given)
            print(token)
            print(f"valid until {iso_time(until)}", file=sys.stderr)
        else:
            restrict(settings, given)
    except (PachinkoError, ValueError) as error:
        sys.exit(f"{given.command}: {error}")


def restrict(settings: Settings, given: argparse.Namespace) -> None:
    """List or change the restrictions in all processes, or close the connections of a user."""
    room = getattr(given, "room", None)
    if room is not None:
        room = ROOM_PREFIX + check_room_name(room)
    with open_service(settings) as service:
        if given.command == "restrictions":
            for each in service.restrictions():
                where = place_of(each.room)
                print(f"{each.kind}  {each.user}  {where}  until {iso_time(each.until)}")
            return
        if given.command == "disconnect":
            service.disconnect_user(given.user)
            print("done")
            return
        change = getattr(service, given.command)
        if given.command in RESTRICTING:
            change(given.user, room, seconds=given.seconds)
        else:
            kind = given.command.removeprefix("un")
            known = {(each.kind, each.user, each.room) for each in service.restrictions()}
            if (kind, given.user, room) not in known:
                raise ValueError(
                    f"{given.user!r} has no {kind} in {place_of(room)}: list them with 'restrictions'"
                )
            change(given.user, room)
    print("done")


@contextmanager
def open_service(settings: Settings) -> Iterator[Publisher | Processes]:
    """Reach the service over Redis or, without it, its process on this machine."""
    url = settings.backend_url.get_secret_value()
    if not url:
        yield Processes(settings.state_folder)
        return
    from falcon_pachinko.publisher import Publisher

    with Publisher(url, prefix=settings.backend_prefix) as publisher:
        yield publisher


def place_of(room: str | None) -> str:
    """Return where a restriction applies."""
    return "all rooms" if room is None else room.removeprefix(ROOM_PREFIX)


def program_token(settings: Settings, given: argparse.Namespace) -> tuple[str, float]:
    """Return a session token for a program, and its end in Unix seconds.

    Raises:
        ValueError: The user or the duration is not valid.
    """
    # SECURITY: "sign out everywhere" revokes for the lifetime of a token, and must outlast this one.
    longest = settings.token_lifetime_seconds
    seconds = longest if given.seconds is None else given.seconds
    if not 1 <= seconds <= longest:
        raise ValueError(
            f"--seconds is {seconds}: give 1 to {longest} (APP_TOKEN_LIFETIME_SECONDS)"
        )
    user = User(id=given.user, name=given.user, roles=frozenset(given.role))
    tokens = Tokens.of(settings.model_copy(update={"token_lifetime_seconds": seconds}))
    token, session = tokens.start(user)
    return token, session.user.expires_at or 0.0


def invitation_link(settings: Settings, room: str, days: float) -> str:
    """Return a link to a private room.

    Raises:
        ValueError: The room is not a private one.
    """
    invitations = Invitations(settings.secrets, Tokens.of(settings).audience)
    name = invitations.invite(room, days * 86_400)
    server = server_object(settings)
    scheme = server["protocol"].replace("ws", "http")
    return f"{scheme}://{server['host']}{settings.root_path}/#{quote(name, safe='~')}"
