"""Formats of the log: a line of text for people, or one JSON object per line for programs."""

from __future__ import annotations

import json
import logging
import math
import re
from datetime import UTC, datetime
from typing import Any, Literal

from .log_text import escape, redact, shorten

LogFormat = Literal["text", "json"]

TEXT = "%(levelname)s:     %(name)s - %(message)s"
# Of a traceback; no record begins with it.
TRACEBACK_PREFIX = "    | "
# The fields of a record that belongs to a connection; also in a line of text.
CONNECTION_FIELDS = (
    "connection_id",
    "user_id",
    "room",
    "route",
    "message_type",
    "close_code",
)
# Attributes of a record that are no fields: those of every record, and uvicorn's copy of the message.
OTHER_ATTRIBUTES = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "asctime",
    "color_message",
    "fields",
    "message",
    "taskName",
}

# SECURITY: fields whose values are not written.
SECRET_NAME = re.compile("(?i)token|ticket|password|secret|authorization|cookie|api_?key")
PLAIN = re.compile(r"[\w./:{}~@+-]+", re.ASCII)


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text, with the fields of its connection at the end."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found = fields_of(record)
        fields = [f"{name}={quoted(found[name])}" for name in CONNECTION_FIELDS if name in found]
        line = super().formatMessage(record)
        return f"{line} [{' '.join(fields)}]" if fields else line


class JSONFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line.

    Its first keys are ``time`` (ISO 8601, UTC, milliseconds), ``level``, ``logger`` and ``message``; the fields of the
    record follow, and ``exception`` with the lines of a traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        content = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # NOTE: a field cannot replace one of these.
        content = content | fields_of(record) | content
        if record.exc_text or record.stack_info:
            content["exception"] = "\n".join(
                line.removeprefix(TRACEBACK_PREFIX)
                for text in (record.exc_text, record.stack_info)
                for line in (text or "").splitlines()
            )
        return json.dumps(content, ensure_ascii=False)


FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JSONFormatter,
}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record: those of the connection whose code has made it, and its ``extra``."""
    own = {name: value for name, value in vars(record).items() if name not in OTHER_ATTRIBUTES}
    found = getattr(record, "fields", {}) | own
    return {
        escape(name): "[redacted]" if SECRET_NAME.search(name) else safe(value)
        for name, value in found.items()
        if value is not None
    }


def safe(value: object) -> str | int | float:
    """Return a value that JSON can represent, without credentials."""
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    try:
        text = str(value)
    except Exception:  # logging reports a wrong record, it does not raise
        text = f"<{type(value).__qualname__}>"
    return shorten(redact(escape(text), headers=True))


def quoted(value: object) -> str:
    """Return a value of a field in a line of text: in quotes if it has other characters than names and paths."""
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
