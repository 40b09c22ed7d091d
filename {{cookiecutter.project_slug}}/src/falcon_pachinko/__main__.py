"""The commands of ``python -m falcon_pachinko``.

A command imports the modules that it needs, so that ``--help`` and an error of usage do not wait for them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def add_new(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``new`` to the commands."""
    text = "write a WebSocket resource with its messages, tests and route into the project here"
    parser = commands.add_parser("new", help=text, description=text, allow_abbrev=False)
    parser.add_argument("name", help="GameRoom gives the class GameRoomResource in game_room.py")
    parser.add_argument("--path", help="for GameRoom by default: /ws/game-room/{game_room_name}")
    parser.add_argument("--prefix", help="of room names; for GameRoom by default: game_room:")
    parser.add_argument("--dry-run", action="store_true", help="print a diff and write nothing")
    parser.set_defaults(run=new)


def new(given: argparse.Namespace) -> int:
    """Write a resource; return the exit status."""
    from .scaffold import command

    return command.run(given)


def verify(given: argparse.Namespace) -> int:
    """List the changed files of the framework; return 1 if there are any."""
    from .support import manifest

    try:
        version, lines = manifest.differences()
    except (OSError, ValueError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if lines:
        print("\n".join(lines))
        return 1
    print(f"All files are unchanged since falcon_pachinko {version}.")
    return 0


def add_conformance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``conformance`` to the commands."""
    purpose = "compare a running server with the protocol of docs/protocol.md"
    parser = commands.add_parser(
        "conformance", help=purpose, description=purpose, allow_abbrev=False
    )
    parser.add_argument("url", help="of a room, such as ws://127.0.0.1:8000/ws/chat/general")
    parser.add_argument("--token", help="a bearer token")
    parser.add_argument(
        "--send",
        nargs=2,
        metavar=("TYPE", "JSON"),
        help="a message that the room broadcasts, also to its sender; without it, recovery of messages is not checked",
    )
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="per answer")
    parser.add_argument(
        "--max-message-bytes", type=int, default=65_536, metavar="BYTES", help="the server's bound"
    )
    parser.add_argument("--any-origin", action="store_true", help="pages of any origin may connect")
    parser.add_argument("--quick", action="store_true", help="do not wait for a heartbeat")
    parser.set_defaults(run=conformance)


def conformance(given: argparse.Namespace) -> int:
    """Compare a server with the protocol; return 1 if it differs."""
    from .client.conformance import command

    return command.run(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; argparse exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser("python -m falcon_pachinko", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_new(commands)
    add_conformance(commands)
    purpose = "list the files of the framework that were changed"
    commands.add_parser("verify", help=purpose, description=purpose).set_defaults(run=verify)
    given = parser.parse_args(arguments)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    sys.exit(main())
