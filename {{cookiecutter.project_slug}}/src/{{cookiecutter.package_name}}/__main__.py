"""Serve the application with uvicorn, as the settings say, or tell its rooms something."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

import uvicorn

from falcon_pachinko import App, PachinkoError
from falcon_pachinko.uvicorn.gc_tuning import freeze_startup_objects
from falcon_pachinko.publisher import Publisher
from falcon_pachinko.uvicorn import PushProtocol

from .app import ROOM_PREFIX, create_app
from .messages import ServerSystemAnnouncement
from .settings import Settings, load_settings

PACKAGE = create_app.__module__.partition(".")[0]

# Enough for the longest text that a user may say, each character escaped; more is closed with 1009.
MAX_MESSAGE_BYTES = 65_536

# How uvicorn serves WebSockets; the tests that run inside a process take the same.
WEBSOCKET_OPTIONS: dict[str, Any] = {
    "ws": PushProtocol,
    "ws_max_size": MAX_MESSAGE_BYTES,
    # NOTE: compression costs 34 KiB of memory for each connection and most of the time per message.
    "ws_per_message_deflate": False,
}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl+C, then end in order."""
    set_up_process(settings)
    several = settings.workers > 1
    uvicorn.run(
        # NOTE: each of several processes makes the application for itself.
        f"{PACKAGE}.__main__:make_app" if several else create_app(settings),
        factory=several,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        lifespan="on",
        server_header=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        workers=settings.workers,
        timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        **WEBSOCKET_OPTIONS,
    )


def make_app() -> App:
    """The application of one of several processes."""
    settings = load_settings()
    set_up_process(settings)
    return create_app(settings)


def set_up_process(settings: Settings) -> None:
    """Let the log tell what the framework and the service have to say, and the collector hold up nobody."""
    freeze_startup_objects()
    # NOTE: only uvicorn knows the level "trace".
    level = settings.log_level.upper().replace("TRACE", "DEBUG")
    logging.basicConfig(level=level, format="%(levelname)s:     %(name)s - %(message)s")


def announce(settings: Settings, text: str) -> None:
    """Tell every room of all processes something.

    Raises:
        SystemExit: They cannot be reached; it says how many have been told.
    """
    url = settings.backend_url.get_secret_value()
    told, rooms = 0, []
    try:
        with Publisher(url, prefix=settings.backend_prefix) as publisher:
            rooms = publisher.get_rooms_by_prefix(ROOM_PREFIX)
            for room in rooms:
                publisher.broadcast_to_room(room, ServerSystemAnnouncement(text=text))
                told += 1
    except PachinkoError as error:
        count = f"{told} of {len(rooms)} rooms have" if told else "No room has"
        sys.exit(f"{count} been told: {error}")
    print(f"{told} rooms have been told")


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line says; serve where it says nothing."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve; what is done without a command too")
    announcing = commands.add_parser(
        "announce", help="tell all rooms something, through the engine at APP_BACKEND_URL"
    )
    announcing.add_argument("text")
    given = parser.parse_args(arguments)
    settings = load_settings()
    if given.command == "announce":
        announce(settings, given.text)
    else:
        serve(settings)


if __name__ == "__main__":
    main()
