"""Requests of a command to the running processes of the service, over their admin sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from falcon_pachinko import PachinkoError
from falcon_pachinko.backends.restriction_entry import Restriction

from .admin_messages import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    Announce,
    Answer,
    AnyRequest,
    Disconnect,
    ListRestrictions,
    Restrict,
)
from .admin_socket import sockets_in
from .announcements import PartialAnnouncement

# A process that is busy for longer does not answer its clients either.
ANSWER_SECONDS = 15.0
# Errors of a process that has ended.
ENDED = (ConnectionRefusedError, FileNotFoundError)

ENCODE_REQUEST = msgspec.json.Encoder().encode
DECODE_ANSWER = msgspec.json.Decoder(Answer).decode

OnAnswer = Callable[[int, Answer], None]


class AdminError(PachinkoError):
    """A command that could not be carried out; the text is a sentence for the operator."""


def ask(
    folder: str, request: AnyRequest, on_answer: OnAnswer, *, seconds: float = ANSWER_SECONDS
) -> None:
    """Send a request to all processes, and pass their answers on as they arrive, with the process ids.

    Args:
        folder: The state folder of the service.
        request: The request.
        on_answer: Called for each line of an answer but for errors.
        seconds: The longest time between the lines of one answer.

    Raises:
        AdminError: No process runs, or one does not answer or has refused the request.
    """
    line = line_of(request)
    if not hasattr(socket, "AF_UNIX"):
        raise AdminError(
            "this system has no Unix sockets, over which the command reaches a process"
        )
    if not folder:
        raise AdminError(
            "APP_STATE_FOLDER is empty, so a process of the service has no admin socket"
        )
    found = sockets_in(Path(folder))
    if not asyncio.run(ask_all(found, line, on_answer, seconds)):
        raise AdminError(
            f"no process of the service has a socket in {folder!r} (APP_STATE_FOLDER): start it, or run this in"
            " the folder and with the settings of the service, such as APP_BACKEND_URL"
        )


def line_of(request: AnyRequest) -> bytes:
    """Return a request as a line.

    Raises:
        AdminError: It cannot be sent.
    """
    try:
        line = ENCODE_REQUEST(request) + b"\n"
    except UnicodeEncodeError:
        raise AdminError("the arguments are not UTF-8 text") from None
    if len(line) > MAX_REQUEST_BYTES:
        raise AdminError(f"the arguments have more than {MAX_REQUEST_BYTES} bytes")
    return line


async def ask_all(
    found: Mapping[Path, int], request: bytes, on_answer: OnAnswer, seconds: float
) -> bool:
    """Ask processes at the same time; return whether one of them runs.

    Raises:
        AdminError: One has refused the request, or does not answer.
    """
    asked = [ask_one(path, pid, request, on_answer, seconds) for path, pid in found.items()]
    results = await asyncio.gather(*asked, return_exceptions=True)
    errors = [each for each in results if isinstance(each, BaseException)]
    if errors:
        raise errors[0]
    return True in results


async def ask_one(
    path: Path, pid: int, request: bytes, on_answer: OnAnswer, seconds: float
) -> bool:
    """Ask one process; return whether it runs.

    Raises:
        AdminError: It has refused the request, or does not answer.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    except ENDED:
        return False  # it has ended meanwhile
    except OSError as error:
        raise AdminError(
            f"{path} of process {pid} cannot be used ({error}): run this as the user of the service"
        ) from None
    is_complete = False
    try:
        writer.write(request)
        while True:
            async with asyncio.timeout(seconds):
                line = await reader.readline()
            if not line and is_complete:
                return True
            if not line:
                raise AdminError(f"process {pid} has ended without an answer: look at its log")
            answer = DECODE_ANSWER(line)
            if answer.error is not None:
                raise AdminError(answer.error)
            is_complete = answer.message is None  # a tail ends with the number of lost messages
            on_answer(pid, answer)
    except TimeoutError:
        raise AdminError(f"process {pid} has not answered within {seconds:g} s") from None
    except (OSError, msgspec.DecodeError) as error:
        raise AdminError(f"process {pid} has not answered: {error}") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Processes:
    """The running processes of a service without Redis: what a publisher does over Redis, over their sockets.

    Args:
        folder: The state folder of the service.

    Raises:
        AdminError: Each method, see :func:`ask`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def announce(self, text: str) -> int:
        """Send an announcement to all rooms; return their number.

        Raises:
            PartialAnnouncement: A process has failed, and another one has sent it to its rooms.
        """
        answers: list[Answer] = []
        try:
            ask(self.folder, Announce(text), lambda _, answer: answers.append(answer))
        except AdminError as error:
            if not answers:
                raise
            raise PartialAnnouncement(reached_by(answers), error) from error
        return reached_by(answers)

    def disconnect_user(self, user: str) -> None:
        """Close all connections of a user."""
        self._ask(Disconnect(user))

    def restrictions(self) -> list[Restriction]:
        """Return the bans and mutes in force."""
        return [
            each for answer in self._ask(ListRestrictions()) for each in answer.restrictions or ()
        ]

    def ban(self, user: str, room: str | None = None, *, seconds: float) -> None:
        """Ban a user from a room, whose name has its prefix, or from all connections."""
        self._ask(Restrict("ban", user, room, seconds))

    def mute(self, user: str, room: str | None = None, *, seconds: float) -> None:
        """Mute a user in a room or in all rooms."""
        self._ask(Restrict("mute", user, room, seconds))

    def unban(self, user: str, room: str | None = None) -> None:
        """End a ban."""
        self._ask(Restrict("unban", user, room))

    def unmute(self, user: str, room: str | None = None) -> None:
        """End a mute."""
        self._ask(Restrict("unmute", user, room))

    def _ask(self, request: AnyRequest) -> list[Answer]:
        answers: list[Answer] = []
        ask(self.folder, request, lambda _, answer: answers.append(answer))
        return answers


def reached_by(answers: Iterable[Answer]) -> int:
    """Return the number of rooms that an announcement has reached."""
    return sum(answer.rooms or 0 for answer in answers)
