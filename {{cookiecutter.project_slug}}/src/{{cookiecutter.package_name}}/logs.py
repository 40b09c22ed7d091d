"""Logging: each record is one line, whatever text it contains, as text or as a JSON object."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import dataclass
from numbers import Number
from typing import Any

from uvicorn.config import LOG_LEVELS, LOGGING_CONFIG

from falcon_pachinko.connection.log_context import current_fields

from .log_formats import FORMATTERS, TRACEBACK_PREFIX, LogFormat
from .log_text import escape, redact, shorten
from .settings import Settings

TRACEBACK_START = "Traceback (most recent call last):"
MAX_TRACEBACK_LINES = 200


class Escaped:
    """An argument of a record: its text is one line without credentials."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return shorten(redact(escape(str(self.value).rstrip("\n")), headers=False))

    def __repr__(self) -> str:
        return shorten(redact(escape(repr(self.value)), headers=False))


class OneLineRecord(logging.LogRecord):
    """A record whose message is one line and whose traceback has a prefix on each line.

    Any handler and any formatter of text can write it. The message has at most 8,192 characters and no
    credentials; see :mod:`.log_text`.

    Attributes:
        fields: Those of the connection whose code has made the record; see
            :func:`~falcon_pachinko.connection.log_context.current_fields`.
    """

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        sinfo: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, level, pathname, lineno, msg, args, exc_info, func, sinfo, **kwargs)
        self.fields = current_fields()
        tracebacks = [self.exc_info and logging.Formatter().formatException(self.exc_info)]
        if not self.args:
            # NOTE: an application passes the traceback of a failed start-up to its server as a text.
            message, start, rest = text_of(msg).partition(TRACEBACK_START)
            tracebacks.append(start + rest if message else rest.lstrip("\n"))
            self.msg = escape((message or start).rstrip("\n"))
        elif isinstance(self.args, tuple):
            self.msg = escape(text_of(msg))
            self.args = tuple(
                each if isinstance(each, Number) else Escaped(each) for each in self.args
            )
        else:
            try:
                message = super().getMessage()
            except Exception:  # logging reports a wrong record, it does not raise
                message = f"{text_of(msg)} % {text_of(self.args)}"
            self.msg, self.args = escape(message), ()
        # NOTE: a formatter appends both below the message.
        self.exc_text = prefixed("\n".join(filter(None, tracebacks))) or None
        self.stack_info = prefixed(sinfo or "") or None

    def getMessage(self) -> str:
        """Return the message."""
        has_headers = self.levelno is not None and self.levelno <= logging.DEBUG
        return shorten(redact(super().getMessage(), headers=has_headers))


def text_of(value: object) -> str:
    """Return the text of a value, or its type if that fails."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def prefixed(traceback: str) -> str:
    """Return a traceback with a prefix on each line, without the middle of a very long one."""
    lines = traceback.splitlines()
    half = MAX_TRACEBACK_LINES // 2
    if (excess := len(lines) - MAX_TRACEBACK_LINES) > 0:
        lines[half:-half] = [f"... {excess} lines ..."]
    return "\n".join(
        TRACEBACK_PREFIX + shorten(redact(escape(line), headers=True)) for line in lines
    )


def protect_log() -> None:
    """Let every logger of this process write each record on one line, also those of the server."""
    logging.setLogRecordFactory(OneLineRecord)


@dataclass(frozen=True)
class HiddenRequests:
    """A filter of a logger; equal ones are one, so that each application may add its own."""

    path: str

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line of the access log is written."""
        hidden = rf'"GET [^ ?]*{re.escape(self.path)}(\?\S*)? HTTP/[0-9.]+" 200$'
        return re.search(hidden, record.getMessage()) is None


def hide_requests(path: str) -> None:
    """Keep the requests for a path with the status 200 out of uvicorn's access log, such as those of a page that polls."""
    logging.getLogger("uvicorn.access").addFilter(HiddenRequests(path))


def format_of(settings: Settings) -> LogFormat:
    """Return the format of the log: JSON in production by default, else text."""
    return settings.log_format or ("json" if settings.production else "text")


def uvicorn_log_config(settings: Settings) -> dict[str, Any] | None:
    """Return the configuration of uvicorn's loggers: its own lines of text, or none, for those of the root logger."""
    return LOGGING_CONFIG if format_of(settings) == "text" else None


def set_up_logging(level: str, log_format: LogFormat = "text") -> None:
    """Configure the root logger.

    Args:
        level: ``critical``, ``error``, ``warning``, ``info``, ``debug`` or ``trace``.
        log_format: ``text`` or ``json``.
    """
    protect_log()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # NOTE: only uvicorn knows the level "trace".
    lowest = max(LOG_LEVELS[level], logging.DEBUG)
    logging.basicConfig(level=lowest)
    for handler in logging.root.handlers:
        handler.setFormatter(FORMATTERS[log_format]())
    logging.captureWarnings(True)


def set_up_server_log(settings: Settings) -> None:
    """Let another server write JSON as well: its handlers, which have been made before, get the format.

    In the format ``text`` the lines of the server stay in its own form.
    """
    if format_of(settings) == "text":
        return
    set_up_logging(settings.log_level, "json")
    for logger in tuple(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                handler.setFormatter(FORMATTERS["json"]())
