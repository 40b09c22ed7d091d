"""The check of uvicorn's options at the start of a process, before the first connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from ..connection.extension import HTTP_EXTENSION, PUSH_EXTENSION
from ..limits import DEFAULT_LIMITS
from ..server.missing_bounds import warn_of_missing_bounds
from . import protocol as push
from .attributes import has_attributes
from .frames import is_supported
from .handshake import HandshakeProtocol
from .handshake_check import knows_handshake, no_application


def check_options(
    options: Mapping[str, Any], max_message_bytes: int = DEFAULT_LIMITS.max_message_bytes
) -> None:
    """Log one line with the bounds that uvicorn with these options does not keep, if there are any.

    Another line is logged if the installed websockets is not known (:func:`.frames.is_supported`).

    Args:
        options: Options of ``uvicorn.run``, such as ``ws=PushProtocol``.
        max_message_bytes: The largest bound of the routes.
    """
    config = uvicorn.Config(no_application, log_config=None, lifespan="off", **options)
    config.load()
    ws_class: Any = config.ws_protocol_class
    protocol_class: Any = getattr(ws_class, "protocol_class", ws_class)
    extensions: dict[str, Any] = {}
    if isinstance(protocol_class, type) and issubclass(protocol_class, push.PushSansIOProtocol):
        is_supported()
        # NOTE: some of the attributes exist on instances only.
        loop = asyncio.new_event_loop()
        try:
            protocol = protocol_class(config, ServerState(), {}, loop)
        finally:
            loop.close()
        if has_attributes(protocol):
            extensions[PUSH_EXTENSION] = protocol
        knows_handshake(HandshakeProtocol)  # it logs a line of its own
    if getattr(config.http_protocol_class, "bounds_requests", False):
        extensions[HTTP_EXTENSION] = {}
    warn_of_missing_bounds(extensions, extensions.get(PUSH_EXTENSION), max_message_bytes)
