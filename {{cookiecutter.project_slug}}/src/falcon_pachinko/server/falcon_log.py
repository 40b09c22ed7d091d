"""The level of Falcon's log records about WebSockets: a client's mistake is not an error of the service."""

from __future__ import annotations

import logging

HTTP_ERROR = "[FALCON] HTTP"
# A WebSocket is closed with 3000 and the status: from here on the service is at fault.
SERVER_ERRORS = 3500


class ClientMistakes(logging.Filter):
    """Lowers records about an HTTPError of a client, such as 404, to the level ``info``.

    Falcon logs each one that a WebSocket handler or the router raises as an error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if not (str(record.msg).startswith(HTTP_ERROR) and len(arguments) == 2):
            return True
        code = arguments[1]
        if not isinstance(code, int) or code >= SERVER_ERRORS:
            return True
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return FALCON_LOGGER.isEnabledFor(logging.INFO)


FALCON_LOGGER = logging.getLogger("falcon")
CLIENT_MISTAKES = ClientMistakes()


def lower_client_mistakes() -> None:
    """Apply the filter to Falcon's logger. Idempotent."""
    FALCON_LOGGER.addFilter(CLIENT_MISTAKES)
