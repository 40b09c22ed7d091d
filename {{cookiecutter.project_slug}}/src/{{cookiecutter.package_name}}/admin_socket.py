"""The admin socket: a Unix socket in the state folder, over which the operator asks and steers this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from falcon_pachinko import PachinkoError, WebSocketConnectionManager
from falcon_pachinko.rooms.inspection import take_snapshot
from falcon_pachinko.rooms.tail import Tails

from .admin_actions import carry_out
from .admin_messages import (
    MAX_REQUEST_BYTES,
    MAX_TAIL_MESSAGES,
    Answer,
    AnyRequest,
    Inspect,
    ListRestrictions,
    TailRequest,
)

logger = logging.getLogger(__name__)

SOCKET_NAME = re.compile(r"admin-(\d+)-[0-9a-f]{8}\.sock")
MAX_CLIENTS = 8
# Errors of a client that is lost.
LOST = (OSError, EOFError)
# The time of a request to arrive, and of the answers to be taken beside the time of a tail.
TRANSFER_SECONDS = 10.0
DISCARD_SECONDS = 1.0

DECODE_REQUEST = msgspec.json.Decoder(AnyRequest).decode
ENCODE_ANSWER = msgspec.json.Encoder().encode


class AdminSocket:
    """Serves the operator's requests while the context is open; for ``async with``.

    The socket has the mode 0600 before the first connection can be made: only the owner of the process, and root, may
    use it. Its name contains the process id. Where it cannot be created, the service runs without one.

    Args:
        folder: The state folder; empty for no socket.
        manager: The connection manager.
        room_prefix: The prefix of the rooms that get announcements.
    """

    def __init__(self, folder: str, manager: WebSocketConnectionManager, room_prefix: str) -> None:
        self.folder = folder
        self.manager = manager
        self.room_prefix = room_prefix
        self.tails = Tails(manager)
        self.tasks: set[asyncio.Task[None]] = set()
        self.path: Path | None = None
        self.server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        if not self.folder:
            return self
        if not hasattr(socket, "AF_UNIX"):
            logger.info("no admin socket: this system has no Unix sockets")
            return self
        try:
            listening, self.path = await asyncio.to_thread(open_socket, Path(self.folder))
        except OSError as error:
            logger.warning(
                "no admin socket in APP_STATE_FOLDER, so the command inspect does not work: %s",
                error,
            )
            return self
        self.server = await asyncio.start_unix_server(
            self._on_client, sock=listening, limit=MAX_REQUEST_BYTES
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        if self.server is not None:
            self.server.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; whatever fails ends in an error line, and a client that does not read is cut off."""
        client = Client(reader, writer)
        try:
            try:
                if len(self.tasks) > MAX_CLIENTS:
                    raise ValueError(f"{MAX_CLIENTS} commands are running: try again later")
                async with asyncio.timeout(TRANSFER_SECONDS):
                    line = await reader.readuntil()
                request = DECODE_REQUEST(line)
                seconds = request.seconds if isinstance(request, TailRequest) else 0.0
                async with asyncio.timeout(TRANSFER_SECONDS + seconds):
                    await self._answer(request, client)
            except asyncio.LimitOverrunError:
                await client.refuse(f"a request has at most {MAX_REQUEST_BYTES} bytes")
            except (PachinkoError, ValueError) as error:
                await client.refuse(str(error))
        except TimeoutError:
            writer.transport.abort()
        except LOST:
            logger.debug("a client of the admin socket has disconnected")
        except Exception:
            logger.exception("a request on the admin socket failed")
            with contextlib.suppress(OSError):
                await client.refuse("the request failed: look at the log of the service")
        finally:
            writer.close()

    async def _answer(self, request: AnyRequest, client: Client) -> None:
        manager = self.manager
        if isinstance(request, Inspect):
            await client.send(Answer(snapshot=take_snapshot(manager, request.user)))
        elif isinstance(request, TailRequest):
            await self._tail(request, client)
        elif isinstance(request, ListRestrictions):
            await client.send(Answer(restrictions=await manager.restrictions()))
        else:
            await client.send(await carry_out(manager, request, self.room_prefix))

    async def _tail(self, request: TailRequest, client: Client) -> None:
        """Send messages until the time or the number is over, then the number of those that were lost."""
        now = asyncio.get_running_loop().time
        end, count = now() + request.seconds, 0
        # NOTE: the operator may omit the prefix; rooms of other resources have another one.
        rooms = () if request.room is None else (request.room, self.room_prefix + request.room)
        with self.tails.open(rooms=rooms, user=request.user) as tail:
            while (left := end - now()) > 0 and count < MAX_TAIL_MESSAGES:
                for message in (await tail.take(left))[: MAX_TAIL_MESSAGES - count]:
                    await client.send(Answer(message=message))
                    count += 1
            await client.send(Answer(end=tail.dropped))


class Client:
    """A connection to the admin socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, answer: Answer) -> None:
        """Write a line, and wait while the other side does not read."""
        self.writer.write(ENCODE_ANSWER(answer) + b"\n")
        await self.writer.drain()

    async def refuse(self, reason: str) -> None:
        """Write an error line, and discard what the other side still sends.

        Raises:
            TimeoutError: It does not end within a second.
        """
        await self.send(Answer(error=reason))
        # NOTE: closing a Unix socket with unread data would take the answer from the other side.
        async with asyncio.timeout(DISCARD_SECONDS):
            while await self.reader.read(MAX_REQUEST_BYTES):
                pass


def sockets_in(folder: Path, own: Path | None = None) -> dict[Path, int]:
    """Return the admin sockets in a folder, each with its process id; remove those of processes that have died.

    Args:
        folder: The folder.
        own: A socket that is left out: that of this process.
    """
    found = {}
    for path in sorted(folder.glob("admin-*.sock")):
        match = SOCKET_NAME.fullmatch(path.name)
        if match is not None and path != own and not remove_if_stale(path):
            found[path] = int(match[1])
    return found


def open_socket(folder: Path) -> tuple[socket.socket, Path]:
    """Return a listening socket in a folder, and its path; remove those of processes that have died.

    Raises:
        OSError: It cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sockets_in(folder)
    name = f"admin-{os.getpid()}-{secrets.token_hex(4)}.sock"
    path, preliminary = folder / name, folder / f".{name}"
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.setblocking(False)
        listening.bind(str(preliminary))
        # SECURITY: nothing can connect before listen(), so the mode is in force for the first connection.
        preliminary.chmod(0o600)
        listening.listen(MAX_CLIENTS)
        # NOTE: with its final name it accepts connections, or another process would take it for a stale one.
        preliminary.rename(path)
    except OSError:
        listening.close()
        preliminary.unlink(missing_ok=True)
        raise
    return listening, path


def remove_if_stale(path: Path) -> bool:
    """Remove the socket of a process that has died, to which nothing listens; return whether it was one."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return True
    return False
