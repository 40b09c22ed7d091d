"""Command line: serve the application with uvicorn, and the tasks of operators and moderators."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import Any

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from falcon_pachinko import App, ConfigurationError, PachinkoError
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol
from falcon_pachinko.uvicorn.gc_tuning import freeze_startup_objects
from falcon_pachinko.uvicorn.start_check import check_options

from .admin_client import Processes
from .app import ROOM_PREFIX, create_app
from .database import SCHEMA_VERSION, failure_text, migrate
from .doctor import print_diagnosis, unknown_settings
from .inspection import add_inspect_command, inspect
from .logs import set_up_logging
from .messages import ServerSystemAnnouncement
from .moderation import add_commands, open_service, run_command
from .settings import Settings, load_settings

logger = logging.getLogger(__name__)

PACKAGE = create_app.__module__.partition(".")[0]

# Enough for the longest text of a message with every character escaped. A larger message closes its
# connection with 1009.
MAX_MESSAGE_BYTES = 65_536

# uvicorn's protocols; the tests that serve in their own process use the same.
WEBSOCKET_OPTIONS: dict[str, Any] = {
    # SECURITY: it bounds the size and the time of requests; uvicorn's own does not.
    "http": BoundedHTTPProtocol,
    "ws": PushProtocol,
    "ws_max_size": MAX_MESSAGE_BYTES,
    # PERF: compression costs 34 KiB of memory per connection and most of the time per message.
    "ws_per_message_deflate": False,
}


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl+C, then shut down in order.

    Raises:
        SystemExit: A setting does not fit to the application, such as an APP_ROOT_PATH that is a route.
    """
    set_up_process(settings)
    for name, nearest in unknown_settings():
        if nearest:
            logger.warning("%s is not a setting, and is ignored: is %s meant?", name, nearest)
    check_options(WEBSOCKET_OPTIONS, MAX_MESSAGE_BYTES)
    several = settings.workers > 1
    try:
        # NOTE: with several processes, each creates an application of its own.
        app = f"{PACKAGE}.__main__:make_app" if several else create_app(settings)
    except ConfigurationError as error:
        sys.exit(f"Invalid settings:\n  {error}")
    uvicorn.run(
        app,
        factory=several,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        lifespan="on",
        server_header=False,
        # NOTE: the application applies APP_TRUSTED_PROXIES itself, under every server.
        proxy_headers=False,
        workers=settings.workers,
        timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        **WEBSOCKET_OPTIONS,
    )


def make_app() -> App:
    """Create the application in one of several processes."""
    settings = load_settings()
    set_up_process(settings)
    return create_app(settings)


def set_up_process(settings: Settings) -> None:
    """Configure logging, and exempt start-up objects from garbage collection."""
    freeze_startup_objects()
    set_up_logging(settings.log_level)


def announce(settings: Settings, text: str) -> None:
    """Send an announcement to every room of all processes.

    Raises:
        SystemExit: Redis is unavailable, or without Redis no process runs here; the text gives the number of rooms
            reached.
    """
    reached, rooms = 0, []
    try:
        with open_service(settings) as service:
            if isinstance(service, Processes):
                reached = service.announce(text)
            else:
                rooms = service.get_rooms_by_prefix(ROOM_PREFIX)
                for room in rooms:
                    service.broadcast_to_room(room, ServerSystemAnnouncement(text=text))
                    reached += 1
    except PachinkoError as error:
        count = f"{reached} of {len(rooms)} rooms" if reached else "no room"
        sys.exit(f"announced to {count}: {error}")
    print(f"announced to {reached} rooms")


def migrate_schema(settings: Settings, revision: str) -> None:
    """Migrate the database of messages to a revision.

    Raises:
        SystemExit: It is not reachable, or there is no such revision.
    """
    if not settings.store_url:
        sys.exit("migrate: APP_DATABASE_URL is none, so there is no database")
    try:
        version = asyncio.run(migrate(settings.store_url, revision))
    except (ConfigurationError, SQLAlchemyError, OSError) as error:
        sys.exit(f"migrate: {failure_text(error)}")
    print(f"the schema of the database is at version {version}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command given on the command line; the default is ``serve``."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve the application (the default)")
    announcing = commands.add_parser("announce", help="send a text to all rooms")
    announcing.add_argument("text", help="the announcement")
    commands.add_parser(
        "doctor",
        help="check the settings, the sign-in, the database and Redis; exit with 1 if a check fails",
    )
    migrating = commands.add_parser(
        "migrate", help="migrate the database of messages; each start does so if it is behind"
    )
    migrating.add_argument(
        "--to",
        default=SCHEMA_VERSION,
        metavar="REVISION",
        help="another revision; a lower one, down to base without tables, loses data",
    )
    add_inspect_command(commands)
    add_commands(commands)
    given = parser.parse_args(arguments)
    if given.command == "doctor":
        sys.exit(print_diagnosis())
    settings = load_settings()
    if given.command == "announce":
        announce(settings, given.text)
    elif given.command == "inspect":
        inspect(settings, given)
    elif given.command == "migrate":
        migrate_schema(settings, given.to)
    elif given.command in (None, "serve"):
        serve(settings)
    else:
        run_command(settings, given)


if __name__ == "__main__":
    main()
