"""Command line: serve the application with uvicorn, and the tasks of operators and moderators."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

from falcon_pachinko import App, ConfigurationError
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol
from falcon_pachinko.uvicorn.gc_tuning import freeze_startup_objects
from falcon_pachinko.uvicorn.server import run
from falcon_pachinko.uvicorn.start_check import check_options

from .app import create_app
from .doctor import print_diagnosis, unknown_settings
from .inherited_sockets import inherited_sockets
from .inspection import add_inspect_command, inspect
from .logs import format_of, set_up_logging, uvicorn_log_config
from .moderation import add_commands, announce, run_command
from .ports import check_port
from .settings import ENV_FILE, Settings, load_settings

logger = logging.getLogger(__name__)

PACKAGE = create_app.__module__.partition(".")[0]

# Enough for the longest text of a message with every character escaped. A larger message closes its
# connection with 1009.
MAX_MESSAGE_BYTES = 65_536

# Folders of a project whose changes do not concern the service.
NOT_SERVED = (".venv", "tests")

# uvicorn's protocols; the tests that serve in their own process use the same.
WEBSOCKET_OPTIONS: dict[str, Any] = {
    # SECURITY: it bounds the size and the time of requests; uvicorn's own does not.
    "http": BoundedHTTPProtocol,
    "ws": PushProtocol,
    "ws_max_size": MAX_MESSAGE_BYTES,
    # PERF: compression costs 6 KiB of memory per connection and time for each message; short ones gain nothing.
    "ws_per_message_deflate": False,
}


def serve(settings: Settings, *, reload: bool = False) -> None:
    """Serve until SIGTERM or Ctrl+C, then shut down in order.

    Args:
        settings: The settings.
        reload: Whether to start again after each change of the code and, if watchfiles is installed, of ``.env``.

    Raises:
        SystemExit: A setting does not fit to the application, such as an APP_ROOT_PATH that is a route.
    """
    set_up_logging(settings.log_level, format_of(settings))
    sockets = inherited_sockets()
    if not sockets:
        check_port(settings.host, settings.port)
    check_port(settings.host, settings.metrics_port, "APP_METRICS_PORT")
    for name, nearest in unknown_settings():
        if nearest:
            logger.warning("%s is not a setting, and is ignored: is %s meant?", name, nearest)
    check_options(WEBSOCKET_OPTIONS, MAX_MESSAGE_BYTES)
    several = reload or settings.workers > 1
    try:
        # NOTE: with several processes, each creates an application of its own.
        app = f"{PACKAGE}.__main__:make_app" if several else create_app(settings)
    except ConfigurationError as error:
        sys.exit(f"Invalid settings:\n  {error}")
    freeze_startup_objects()
    run(
        app,
        drain=settings.drain,
        sockets=sockets,
        io_uring=settings.io_uring,
        factory=several,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=uvicorn_log_config(settings),
        lifespan="on",
        server_header=False,
        # NOTE: the application applies APP_TRUSTED_PROXIES itself, under every server.
        proxy_headers=False,
        **(reload_options() if reload else {"workers": settings.workers}),
        timeout_graceful_shutdown=settings.graceful_shutdown_seconds,
        **WEBSOCKET_OPTIONS,
    )


def reload_options() -> dict[str, Any]:
    """Return uvicorn's options for a process that starts again after each change."""
    if importlib.util.find_spec("watchfiles") is None:
        # NOTE: uvicorn looks at every Python file four times a second: not at those in .venv.
        return {"reload": True, "reload_dirs": [str(Path(__file__).parents[1])]}
    others = [Path.cwd() / folder for folder in NOT_SERVED]
    return {
        "reload": True,
        "reload_dirs": [str(Path.cwd())],
        "reload_includes": [ENV_FILE],
        "reload_excludes": [str(folder) for folder in others if folder.is_dir()],
    }


def make_app() -> App:
    """Create the application in a process that another one has started."""
    settings = load_settings()
    set_up_logging(settings.log_level, format_of(settings))
    app = create_app(settings)
    freeze_startup_objects()
    return app


def migrate_schema(settings: Settings, revision: str | None) -> None:
    """Migrate the database of messages to a revision, by default that of this service.

    Raises:
        SystemExit: It is not reachable, or there is no such revision.
    """
    if not settings.store_url:
        sys.exit("migrate: APP_DATABASE_URL is none, so there is no database")
    from .database import SCHEMA_VERSION, UNUSABLE, failure_text, migrate

    try:
        version = asyncio.run(migrate(settings.store_url, revision or SCHEMA_VERSION))
    except (ConfigurationError, *UNUSABLE) as error:
        sys.exit(f"migrate: {failure_text(error)}")
    print(f"the schema of the database is at version {version}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command given on the command line; the default is ``serve``."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    serving = commands.add_parser("serve", help="serve the application (the default)")
    serving.add_argument(
        "--reload", action="store_true", help="start again after each change, for development"
    )
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
        serve(settings, reload=getattr(given, "reload", False))
    else:
        run_command(settings, given)


if __name__ == "__main__":
    main()
