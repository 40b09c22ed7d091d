"""The command ``inspect``: what the running processes on this machine do, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from falcon_pachinko.rooms.inspection import ConnectionView, RoomView, Snapshot
from falcon_pachinko.rooms.tail import TailedMessage

from .admin_client import ANSWER_SECONDS, AdminError, ask
from .admin_messages import MAX_TAIL_MESSAGES, MAX_TAIL_SECONDS, Answer, Inspect, TailRequest
from .log_text import escape
from .resources.{{ cookiecutter.__resource_module }} import ROOM_PREFIX
from .settings import Settings


def add_inspect_command(commands: Any) -> None:
    """Add the command to the subparsers of a parser."""
    parser = commands.add_parser(
        "inspect", help="show rooms, connections and close codes of the processes on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--seconds",
        type=tail_seconds,
        default=10.0,
        help=f"the duration of a tail (default: 10, at most {MAX_TAIL_SECONDS:g})",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--user", help="the connections and the rooms of this user only")
    only.add_argument(
        "--tail",
        metavar="ROOM",
        help=f"show the messages to a room as they are sent, at most {MAX_TAIL_MESSAGES:,}",
    )
    only.add_argument("--tail-user", metavar="USER", help="the same for the messages to a user")


def tail_seconds(text: str) -> float:
    """Return the duration of a tail.

    Raises:
        argparse.ArgumentTypeError: It is not valid.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TAIL_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration: give seconds, at most {MAX_TAIL_SECONDS:g}"
        )
    return seconds


def inspect(settings: Settings, given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        SystemExit: No process runs on this machine, or one does not answer.
    """
    try:
        if given.tail is None and given.tail_user is None:
            show_state(settings.state_folder, given.user, as_json=given.json)
        else:
            request = TailRequest(given.seconds, given.tail, given.tail_user)
            show_tail(settings.state_folder, request, as_json=given.json)
    except AdminError as error:
        sys.exit(f"inspect: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def show_state(folder: str, user: str | None, *, as_json: bool) -> None:
    """Print the state of each process."""
    found: dict[int, Snapshot] = {}

    def on_answer(pid: int, answer: Answer) -> None:
        if answer.snapshot is not None:
            found[pid] = answer.snapshot

    ask(folder, Inspect(user), on_answer)
    if as_json:
        print(json.dumps({"processes": processes_of(found)}))
    else:
        print("\n\n".join("\n".join(state_lines(pid, found[pid])) for pid in sorted(found)))


def show_tail(folder: str, request: TailRequest, *, as_json: bool) -> None:
    """Print messages as they arrive, each process those that it delivers."""

    def on_answer(pid: int, answer: Answer) -> None:
        if answer.message is not None:
            show_message(pid, answer.message, as_json=as_json)
        elif answer.end:
            print(f"process {pid}: {answer.end} messages were too many to show", file=sys.stderr)

    ask(folder, request, on_answer, seconds=request.seconds + ANSWER_SECONDS)


def show_message(pid: int, message: TailedMessage, *, as_json: bool) -> None:
    """Print a message of a tail on one line."""
    if as_json:
        print(json.dumps({"pid": pid} | fields_of(message)), flush=True)
        return
    at = datetime.fromtimestamp(message.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    to = "-" if message.room is None else shown_room(message.room)
    text = escape(message.text) or "(binary)"
    print(f"{at}  {pid}  {to}  {message.size_bytes} bytes  {text}", flush=True)


def processes_of(found: Mapping[int, Snapshot]) -> list[dict[str, Any]]:
    """Return what JSON shows of processes, by their ids."""
    return [{"pid": pid} | fields_of(found[pid]) for pid in sorted(found)]


def fields_of(shown: Snapshot | TailedMessage) -> dict[str, Any]:
    """Return what JSON shows, with the names of rooms as in tables."""
    fields: dict[str, Any] = msgspec.to_builtins(shown, str_keys=True)
    if isinstance(shown, TailedMessage):
        fields["room"] = None if shown.room is None else shown.room.removeprefix(ROOM_PREFIX)
        return fields
    for room in fields["rooms"]:
        room["name"] = room["name"].removeprefix(ROOM_PREFIX)
    for connection in fields["connections"]:
        connection["rooms"] = [each.removeprefix(ROOM_PREFIX) for each in connection["rooms"]]
    return fields


def state_lines(pid: int, state: Snapshot) -> list[str]:
    """Return the lines about a process."""
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(state.closes.items()))
    return [
        f"process {pid}: {state.connection_count} connections, {state.pending_count} handshakes,"
        f" {state.room_count} rooms",
        f"close codes since the start: {codes or 'none'}",
        *count_lines(state),
        "",
        *table(("ROOM", "USERS", "CONNECTIONS"), map(room_cells, state.rooms)),
        "",
        *table(
            ("CONNECTION", "USER", "ROUTE", "SECONDS", "BACKLOG", "ROOMS"),
            map(connection_cells, state.connections),
        ),
    ]


def count_lines(state: Snapshot) -> Iterable[str]:
    """Yield the lines about events, if they are counted, and about Redis, if there is one."""
    if (counts := state.counts) is not None:
        yield (
            f"since the start: {counts.accepts} connections, {counts.messages_in} messages of clients,"
            f" {counts.messages_out} to clients"
        )
    if (redis := state.redis) is not None:
        status = f"unavailable: {escape(redis.outage)}" if redis.outage else "available"
        yield f"Redis: {status}; unavailable for {redis.unavailable_seconds:.1f} s since the start"


def room_cells(room: RoomView) -> Sequence[str]:
    """Return the cells about a room."""
    return shown_room(room.name), str(room.users), str(room.connections)


def connection_cells(connection: ConnectionView) -> Sequence[str]:
    """Return the cells about a connection."""
    more = connection.room_count - len(connection.rooms)
    rooms = ", ".join(map(shown_room, connection.rooms)) + (f" and {more} more" if more else "")
    return (
        connection.id,
        "-" if connection.user is None else escape(connection.user),
        connection.route or "-",
        f"{connection.seconds:.1f}",
        str(connection.backlog_bytes),
        rooms or "-",
    )


def shown_room(room: str) -> str:
    """Return the name of a room as users know it; that of another resource's room with its prefix."""
    return escape(room.removeprefix(ROOM_PREFIX))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, whose columns are as wide as their longest cell."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
