"""The file in which a single process keeps its restrictions over a restart."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ..errors import ConfigurationError
from .restriction_entry import MAX_RESTRICTIONS, RestrictionEntry

FORMAT = 1
# An entry has at most 460 bytes in its name, each of which JSON may write as six, and 60 in its value.
MAX_FILE_BYTES = MAX_RESTRICTIONS * 3_072


class Content(msgspec.Struct):
    """The content of the file: the values of the entries by name."""

    format: int
    restrictions: dict[str, str]


class StateFile:
    """A JSON file that is replaced as a whole, so that a crash leaves the old or the new content.

    Its methods block: call them in a thread.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.written = 0

    def read(self) -> list[RestrictionEntry]:
        """Return the entries; none if there is no file.

        Raises:
            ConfigurationError: The file cannot be read, or is not valid.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigurationError(
                f"the state file {self.path} cannot be read ({error}): let this process read and write it"
            ) from None
        try:
            if len(data) > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            content = msgspec.json.decode(data, type=Content)
            if content.format != FORMAT:
                raise ValueError(f"its format is {content.format}, and this version reads {FORMAT}")
            return [RestrictionEntry.decode(*item) for item in content.restrictions.items()]
        except ValueError as error:
            raise ConfigurationError(
                f"the state file {self.path} is not valid ({error}): restore it from a copy, or delete it to"
                " start without bans, mutes and revoked sessions"
            ) from None

    def write(self, number: int, entries: Iterable[RestrictionEntry]) -> None:
        """Replace the content, unless a later one has been written.

        Args:
            number: Higher for later contents.
            entries: The entries.

        Raises:
            OSError: The file cannot be written; it has its old content.
        """
        restrictions: Mapping[str, str] = {entry.field: entry.value for entry in entries}
        data = msgspec.json.encode({"format": FORMAT, "restrictions": restrictions})
        with self.lock:
            if number <= self.written:
                return
            temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            self.written = number
