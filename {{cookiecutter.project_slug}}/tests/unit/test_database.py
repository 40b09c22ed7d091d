"""The schema of the database of messages: its versions and migrations, over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, TextClause, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from falcon_pachinko import ConfigurationError

from {{ cookiecutter.package_name }} import database, tables
from {{ cookiecutter.package_name }}.__main__ import main
from {{ cookiecutter.package_name }}.database import (
    SCHEMA_VERSION,
    migrate,
    open_engine,
    prepare_schema,
)

from ..postgres import Postgres, running_postgres

pytestmark = pytest.mark.slow

WAIT_SECONDS = 30.0
PROCESSES = 4

# Waits for a line, so that all processes begin at the same time, and prints whether it needed Alembic.
STARTING = f"""
import asyncio, sys
from {database.__name__} import prepare_schema
print("imported", flush=True)
sys.stdin.readline()
asyncio.run(prepare_schema(sys.argv[1]))
print("alembic" in sys.modules)
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/a folder/messages.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


async def run_sync(url: str, function: Callable[[Connection], Any]) -> Any:
    """Call a function with a connection."""
    engine = open_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(function)
    finally:
        await engine.dispose()


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def differences(connection: Connection) -> list[Any]:
    """Return what a new migration would have to change, according to Alembic."""
    # PERF: the quick tests need no Alembic, and import this module.
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection), tables.metadata))


def starting(url: str) -> subprocess.Popen[str]:
    """Start a process that prepares the schema when it gets a line."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTING, url],
        env={"PYTHONPATH": str(Path(database.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_version_in_the_code_is_that_of_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(database.MIGRATIONS))
    revisions = [each.revision for each in script.walk_revisions()]
    assert revisions[0] == SCHEMA_VERSION
    assert revisions == sorted(revisions, reverse=True)
    assert {len(each) for each in revisions} == {4}


async def test_the_migrations_create_the_tables_of_the_code(url: str) -> None:
    await prepare_schema(url)
    assert await run_sync(url, table_names) == {
        "alembic_version",
        "messages",
        "reactions",
        "read_markers",
    }
    assert await run_sync(url, differences) == []


async def test_migrations_lead_down_and_up_again(url: str) -> None:
    assert await migrate(url) == SCHEMA_VERSION
    assert await migrate(url, "base") == "base"
    assert await run_sync(url, table_names) == {"alembic_version"}
    assert await migrate(url, "base") == "base"
    assert await migrate(url) == SCHEMA_VERSION
    assert await run_sync(url, differences) == []


async def test_a_migration_that_copies_a_table_keeps_its_references(url: str) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    def insert(connection: Connection) -> None:
        for table in (tables.messages, tables.reactions):
            is_text = {each.name: isinstance(each.type, tables.ChatText) for each in table.c}
            values = {name: "1" if text else 1 for name, text in is_text.items()}
            connection.execute(table.insert().values(values))

    def copy(connection: Connection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("messages", recreate="auto") as batch:
            batch.alter_column("text", nullable=False, server_default="")

    def count(connection: Connection) -> int:
        return len(connection.execute(tables.reactions.select()).all())

    await prepare_schema(url)
    await run_sync(url, insert)
    engine = open_engine(url, migrating=True)
    async with engine.begin() as connection:
        await connection.run_sync(copy)
    await engine.dispose()
    assert await run_sync(url, count) == 1


async def test_a_newer_schema_stays_as_it_is(url: str) -> None:
    await prepare_schema(url)
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await run_sync(url, lambda connection: connection.execute(newer))
    await prepare_schema(url)
    assert await run_sync(url, database.read_version) == "9999"


async def test_an_unknown_revision_is_refused_and_changes_nothing(url: str) -> None:
    await prepare_schema(url)
    with pytest.raises(ConfigurationError, match="4711"):
        await migrate(url, "4711")
    assert await run_sync(url, database.read_version) == SCHEMA_VERSION


async def test_a_failed_migration_changes_nothing(url: str) -> None:
    create = text("CREATE TABLE messages (id INTEGER)")
    database.make_file(url)
    await run_sync(url, lambda connection: connection.execute(create))
    with pytest.raises(ConfigurationError, match="the database cannot be used"):
        await prepare_schema(url)
    assert await run_sync(url, table_names) == {"messages"}


def test_processes_that_start_at_once_migrate_once(url: str) -> None:
    processes = [starting(url) for _ in range(PROCESSES)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "imported\n"
        outputs = [process.communicate(None, WAIT_SECONDS)[0] for process in begin(processes)]
    finally:
        for process in processes:
            process.kill()
            process.wait(WAIT_SECONDS)
    assert {output.splitlines()[-1] for output in outputs} <= {"True", "False"}, outputs
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert asyncio.run(run_sync(url, differences)) == []


def begin(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let all processes continue."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def test_alembic_is_imported_only_to_migrate(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/messages.db"
    printed = []
    for _ in range(2):
        process = starting(url)
        printed.append(process.communicate("\n", WAIT_SECONDS)[0].split())
    assert printed == [["imported", "True"], ["imported", "False"]]


async def test_sqlite_waits_for_the_disk_and_lets_readers_read_meanwhile(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/messages.db"
    database.make_file(url)
    full = 2
    for name, value in (("journal_mode", "wal"), ("synchronous", full), ("foreign_keys", 1)):
        read = text(f"PRAGMA {name}")

        def pragma(connection: Connection, read: TextClause = read) -> object:
            return connection.execute(read).scalar()

        assert await run_sync(url, pragma) == value


def test_a_process_waits_while_another_one_creates_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "messages.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, timeout=0.0, check_same_thread=False)) as connection,
    ):
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database.use_wal(connection)
        monkeypatch.setattr(database, "BUSY_SECONDS", WAIT_SECONDS)
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(database.use_wal, connection)
            assert not waiting.done()
            other.execute("COMMIT")
            waiting.result(WAIT_SECONDS)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
async def test_the_files_of_sqlite_are_for_the_service_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/messages.db"
    await prepare_schema(url)
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT version_num FROM alembic_version"))
        names = ["messages.db", "messages.db-shm", "messages.db-wal"]
        assert sorted(os.listdir(tmp_path)) == names
        assert {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in names} == {0o600}
    await engine.dispose()


@pytest.mark.postgres
async def test_a_database_without_unicode_is_refused(postgres: Postgres) -> None:
    latin = postgres.new_database("ENCODING 'LATIN1'", "TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="LATIN1: create it with ENCODING 'UTF8'"):
        await prepare_schema(latin)


async def test_an_unusable_database_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://chat:hunter2@127.0.0.1:1/chat?application_name=hunter2"
    with pytest.raises(ConfigurationError, match="APP_DATABASE_URL: the data") as refused:
        await prepare_schema(url)
    assert "hunter" not in str(refused.value)
    assert database.shown_url(url) == "PostgreSQL, 127.0.0.1:1/chat"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"Not a directory|exists"):
        await prepare_schema(f"sqlite:///{tmp_path}/file/messages.db")
    (tmp_path / "other.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="file is not a database"):
        await prepare_schema(f"sqlite:///{tmp_path}/other.db")


@pytest.mark.postgres
async def test_a_probe_changes_nothing_and_needs_the_right_to_write(postgres: Postgres) -> None:
    url = postgres.new_database()
    assert await database.probe(url) == "base"
    await prepare_schema(url)
    assert await database.probe(url) == SCHEMA_VERSION
    name = url.rpartition("/")[2]
    read_only = text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await run_sync(url, lambda connection: connection.execute(read_only))
    with pytest.raises(SQLAlchemyError, match="read-only"):
        await database.probe(url)


class TestCommand:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        """A folder without .env, and the settings of a service."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("APP_SECRET", secret)

    def test_it_migrates_to_the_newest_or_another_revision(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in ([], ["--to", "base"], []):
            main(["migrate", *arguments])
        versions = [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()]
        assert versions == [SCHEMA_VERSION, "base", SCHEMA_VERSION]
        assert Path("var/messages.db").is_file()

    @pytest.mark.parametrize(
        ("url", "arguments", "reason"),
        [
            ("none", [], "migrate: APP_DATABASE_URL is none, so there is no database"),
            ("", ["--to", "4711"], "migrate: Can't locate revision identified by '4711'"),
            ("sqlite:////dev/null/x", [], "migrate: .*(File exists|Not a directory)"),
        ],
    )
    def test_it_ends_with_the_reason_if_it_cannot(
        self, monkeypatch: pytest.MonkeyPatch, url: str, arguments: list[str], reason: str
    ) -> None:
        monkeypatch.setenv("APP_DATABASE_URL", url)
        with pytest.raises(SystemExit, match=reason):
            main(["migrate", *arguments])
