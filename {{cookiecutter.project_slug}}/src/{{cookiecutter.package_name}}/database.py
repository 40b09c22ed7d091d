"""The database of messages: its engine, the version of its schema, and its migrations.

``migrations/`` contains a revision for each version. Alembic is imported only to run them.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from falcon_pachinko import ConfigurationError

from .store_url import sqlite_path

logger = logging.getLogger(__name__)

# The newest revision in migrations/versions; revisions are numbers of four digits.
SCHEMA_VERSION = "0002"
NO_SCHEMA = "base"
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number that no other program uses for an advisory lock in the same database.
MIGRATION_LOCK = 7_255_116_103
CONNECT_SECONDS = 5
# A connection whose packets are dropped, by a firewall after a quiet night for example, is found within seconds (tcp(7)).
KEEPALIVE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": CONNECT_SECONDS * 1_000,
}
# How long a transaction of SQLite waits for that of another process.
BUSY_SECONDS = 5.0
# The interval of attempts where SQLite does not wait.
LOCKED_SECONDS = 0.01
# The bits of an error code that name the kind (https://sqlite.org/rescode.html).
PRIMARY_CODE = 0xFF
# Errors of a database that is not reachable or not usable.
UNUSABLE = (SQLAlchemyError, sqlite3.Error, OSError)


def open_engine(url: str, *, migrating: bool = False) -> AsyncEngine:
    """Create the engine for a URL of :func:`.store_url.resolve_store_url`; connects to nothing.

    Args:
        url: The URL.
        migrating: Let each transaction of SQLite begin with the lock for writing.
    """
    path = sqlite_path(url)
    if path is None:
        # NOTE: a connection that PostgreSQL has closed, at its restart for example, is replaced unnoticed.
        return create_async_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            connect_args={"connect_timeout": CONNECT_SECONDS, **KEEPALIVE},
            hide_parameters=True,
            pool_pre_ping=True,
        )
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, record: object) -> None:
        # FULL: a committed message survives a power cut (https://sqlite.org/pragma.html#pragma_synchronous).
        # OFF: a migration that replaces a table by its copy would delete all that refers to it.
        for pragma in ("synchronous = FULL", f"foreign_keys = {'OFF' if migrating else 'ON'}"):
            connection.execute(f"PRAGMA {pragma}").close()
        if migrating:
            connection.isolation_level = None  # The driver begins no transaction by itself.

    if migrating:

        @event.listens_for(engine.sync_engine, "begin")
        def lock(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


async def prepare_schema(url: str) -> None:
    """Migrate the database to :data:`SCHEMA_VERSION` if it is behind; a newer schema stays as it is.

    Creates the folder and the file of SQLite. Any number of processes may call it at the same time.

    Raises:
        ConfigurationError: The database is not reachable or not usable; the text has no password.
    """
    engine = open_engine(url)
    try:
        make_file(url)
        async with engine.connect() as connection:
            await check_encoding(connection)
            version = await connection.run_sync(read_version)
        if is_behind(version):
            logger.info("migrating the database from schema %s to %s", version, SCHEMA_VERSION)
            await migrate(url)
    except UNUSABLE as error:
        raise ConfigurationError(
            f"APP_DATABASE_URL: the database cannot be used ({failure_text(error)}): correct it, or set none to"
            " store no message"
        ) from None
    finally:
        await engine.dispose()


async def check_encoding(connection: AsyncConnection) -> None:
    """Refuse a PostgreSQL database that cannot store every character.

    Raises:
        ConfigurationError: Its encoding is not UTF8.
    """
    if connection.dialect.name != "postgresql":
        return
    encoding = (await connection.execute(text("SHOW server_encoding"))).scalar_one()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"APP_DATABASE_URL: the encoding of the database is {encoding}: create it with ENCODING 'UTF8'"
        )


def make_file(url: str) -> None:
    """Create the folder and the file of SQLite, if they are missing, with a log that readers do not wait for.

    Raises:
        OSError: They cannot be created.
        sqlite3.Error: It is not a database, or another process locks it.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # SECURITY: messages are for the service only; SQLite's files beside this one get the same mode.
        path.touch(mode=0o600)
    if path is not None:
        with closing(sqlite3.connect(path, timeout=0.0)) as connection:
            use_wal(connection)


def use_wal(connection: sqlite3.Connection) -> None:
    """Change the file to a write-ahead log, which is a property of the file.

    Raises:
        sqlite3.Error: The file is not a database, or another process locks it.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # NOTE: SQLite does not wait for another process that does the same, whatever its timeout.
            is_busy = error.sqlite_errorcode & PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(LOCKED_SECONDS)


def is_behind(version: str) -> bool:
    """Return whether a version of the schema is older than this service needs."""
    return version == NO_SCHEMA or version < SCHEMA_VERSION


async def probe(url: str) -> str:
    """Return the version of the schema, after an attempt to write that changes nothing.

    Raises:
        SQLAlchemyError: The database is not reachable, or refuses to write.
    """
    engine = open_engine(url)
    try:
        async with engine.connect() as connection:
            version = await connection.run_sync(read_version)
            if version != NO_SCHEMA:
                await connection.execute(text("DELETE FROM messages WHERE id = ''"))
                await connection.rollback()
        return version
    finally:
        await engine.dispose()


def read_version(connection: Connection) -> str:
    """Return the version of the schema; ``base`` for a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return NO_SCHEMA
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found or NO_SCHEMA


async def migrate(url: str, revision: str = SCHEMA_VERSION) -> str:
    """Migrate the database to a revision, up or down; return the version that it has afterwards.

    All of it is one transaction under a lock: processes that start at once migrate one after the other, and
    all but the first one find nothing to do.

    Raises:
        SQLAlchemyError: The database is not reachable, or refuses a statement.
        OSError: SQLite's file cannot be created.
        sqlite3.Error: It is not a database, or another process locks it.
        ConfigurationError: There is no such revision.
    """
    make_file(url)
    engine = open_engine(url, migrating=True)
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": MIGRATION_LOCK})
            await connection.run_sync(run_migrations, revision)
            return await connection.run_sync(read_version)
    finally:
        await engine.dispose()


def run_migrations(connection: Connection, revision: str) -> None:
    """Run the migrations from the present version to a revision, inside the transaction of the connection."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    current = read_version(connection)
    is_down = current != NO_SCHEMA and (revision == NO_SCHEMA or revision < current)
    try:
        (command.downgrade if is_down else command.upgrade)(config, revision)
    except CommandError as error:
        raise ConfigurationError(str(error)) from None


def shown_url(url: str) -> str:
    """Return the database that a URL names, without credentials."""
    path = sqlite_path(url)
    if path is not None:
        return f"SQLite, {path}"
    named = make_url(url)
    host = f"{named.host}:{named.port or 5432}" if named.host else "a local socket"
    return f"PostgreSQL, {host}/{named.database or ''}"


def failure_text(error: BaseException) -> str:
    """Return the first line of a database error, without its statement and parameters."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError):
        return "no response in time"
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
