"""The commands to a service that is a single process without Redis: a Unix socket beside its state file.

Who may write to the socket may send commands: it belongs to the user of the service, and has the mode 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from falcon_pachinko import BackendUnavailable, WebSocketConnectionManager

from .messages import ServerSystemAnnouncement

logger = logging.getLogger(__name__)

SOCKET = "admin.sock"
MAX_REQUEST_BYTES = 65_536
# How long a command waits for the service, and the service for a command.
WAIT_SECONDS = 10.0

Answer = Callable[["Request"], Awaitable["Reply"]]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """A command, as one line of JSON."""

    announce: str


class Reply(msgspec.Struct, omit_defaults=True):
    """Its result: the number of rooms that it has reached, or the reason of a failure."""

    rooms: int = 0
    error: str = ""


class ServiceUnreachable(Exception):
    """No service has a socket at this path; the text is for the operator."""


async def announce_to_all(
    manager: WebSocketConnectionManager, room_prefix: str, request: Request
) -> Reply:
    """Send an announcement to every room of this process."""
    rooms = await manager.get_rooms_by_prefix(room_prefix)
    for room in rooms:
        await manager.broadcast_to_room(room, ServerSystemAnnouncement(text=request.announce))
    return Reply(rooms=len(rooms))


@asynccontextmanager
async def admin_socket(state_file: Path | None, answer: Answer) -> AsyncIterator[None]:
    """Answer commands at the socket beside the state file; without one, or without Unix sockets, do nothing."""
    if state_file is None or not hasattr(socket, "AF_UNIX"):
        yield
        return
    path = state_file.with_name(SOCKET)
    try:
        listening = listen(path)
    except OSError as error:
        logger.warning("no commands can be sent to this process: %s: %s", path, error)
        yield
        return

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(WAIT_SECONDS):
                reply = await reply_to(await reader.readline(), answer)
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, sock=listening, limit=MAX_REQUEST_BYTES)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            path.unlink()


async def reply_to(line: bytes, answer: Answer) -> Reply:
    """Return the reply to a line."""
    try:
        return await answer(msgspec.json.decode(line, type=Request))
    except (msgspec.DecodeError, BackendUnavailable) as error:
        return Reply(error=str(error))


def listen(path: Path) -> socket.socket:
    """Return a listening socket that only this user can connect to, in place of one that nobody serves.

    Raises:
        OSError: Another process serves it, or it cannot be made.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # SECURITY: a later chmod would leave others a moment.
    before = os.umask(0o177)
    try:
        remove_stale(path)
        listening.bind(str(path))
        listening.listen()
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


def remove_stale(path: Path) -> None:
    """Remove the socket of a process that has died.

    Raises:
        OSError: A process serves it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("another process with the same APP_STATE_FOLDER has it")


def send_command(state_file: Path | None, request: Request) -> Reply:
    """Send a command to the service, and return its reply; blocks.

    Raises:
        ServiceUnreachable: There is no service with this state file, or it does not answer.
    """
    if state_file is None or not hasattr(socket, "AF_UNIX"):
        raise ServiceUnreachable(
            "set APP_BACKEND_URL to the Redis of the service, or APP_STATE_FOLDER to its folder"
        )
    path = state_file.with_name(SOCKET)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(WAIT_SECONDS)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as file:
                return msgspec.json.decode(file.readline(), type=Reply)
    except (OSError, msgspec.DecodeError) as error:
        raise ServiceUnreachable(
            f"no service answers at {path} ({error}): start it in this folder, or set APP_BACKEND_URL to its Redis"
        ) from None
