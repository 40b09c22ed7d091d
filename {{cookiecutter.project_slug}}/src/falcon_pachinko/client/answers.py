"""The answers of a client to requests of the server."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from .envelope import MessageTypes
from .sockets import AsyncioPlatform

logger = logging.getLogger(__name__)

# The longest error that the server accepts.
MAX_ERROR_CHARACTERS = 1_000
# A server that asks faster than the functions answer must not pile up tasks.
MAX_RUNNING = 100


class Answers:
    """The functions of one connection or room by the types of requests, and the calls that run.

    Args:
        platform: Runs the calls.
        types: Decodes the requests.
    """

    def __init__(self, platform: AsyncioPlatform, types: MessageTypes) -> None:
        self.platform = platform
        self.types = types
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self.running: set[asyncio.Task[None]] = set()

    def set(self, message_type: str, function: Callable[[Any], Any] | None) -> None:
        """Set the function of a type, or remove it."""
        if function is None:
            self.functions.pop(message_type, None)
        else:
            self.functions[message_type] = function

    def receive(self, message: dict[str, Any], reply: Callable[[object], None]) -> None:
        """Answer a request in a task; above 100 at once with an error, which is logged."""
        message_type = message["type"]
        function = self.functions.get(message_type)
        if function is None:
            reply(error_reply("unsupported", f"This client does not answer {message_type}."))
        elif len(self.running) >= MAX_RUNNING:
            logger.warning("did not answer %s: %s answers are running", message_type, MAX_RUNNING)
            reply(error_reply("failed", "This client answers too many requests at once."))
        else:
            task = self.platform.spawn(self.run(function, message, reply))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def run(
        self,
        function: Callable[[Any], Any],
        message: dict[str, Any],
        reply: Callable[[object], None],
    ) -> None:
        """Answer a request; an exception, and a result that JSON cannot represent, are logged and sent as an error."""
        message_type = message["type"]
        try:
            found = self.types.object_of(message_type, message["payload"])
            result = function(message["payload"] if found is None else found)
            if inspect.isawaitable(result):
                result = await result
            reply({"result": result})
        except Exception as error:
            logger.exception("the answer to %s failed", message_type)
            reply(error_reply("failed", str(error)))


def error_reply(code: str, text: str) -> dict[str, str]:
    """Return the payload of a failed reply; half of a surrogate pair, which is not valid JSON, is escaped."""
    valid = text.encode("utf-8", "backslashreplace").decode()
    return {"code": code, "error": valid[:MAX_ERROR_CHARACTERS]}
