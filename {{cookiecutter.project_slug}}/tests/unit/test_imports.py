"""What the service imports at its start: only the libraries that its settings need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }} import settings

pytestmark = pytest.mark.slow

# As the command does before it serves, up to the end of the start.
PROGRAM = f"""
import asyncio, sys
from falcon_pachinko import lifespan
from {settings.PACKAGE} import __main__ as command

async def start():
    async with lifespan(command.create_app(command.load_settings())):
        print("modules", *sys.modules)

asyncio.run(start())
"""
# Libraries of extras, the tools of operators, and programs that publish from outside.
NEVER = {
    "authlib",
    "falcon_pachinko.backends.redis",
    "falcon_pachinko.client",
    "falcon_pachinko.publisher",
    "falcon_pachinko.scaffold",
    "falcon_pachinko.testing",
    "httpx2",
    "joserfc",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "redis",
    "sqlalchemy.dialects.postgresql",
}


def started_modules(folder: Path, **variables: str) -> set[str]:
    """Start the service in a process of its own, and return the modules that it has imported."""
    environment = {
        "PYTHONPATH": str(Path(settings.__file__).parents[1]),
        "APP_ENVIRONMENT": "test",
        "APP_SECRET": "a-secret-that-only-these-tests-have-0123456789",
    }
    finished = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert finished.returncode == 0, finished.stderr
    [line] = [each for each in finished.stdout.splitlines() if each.startswith("modules ")]
    return set(line.split())


def test_a_service_without_a_store_imports_no_database(tmp_path: Path) -> None:
    modules = started_modules(tmp_path, APP_DATABASE_URL="none")
    assert f"{settings.PACKAGE}.app" in modules
    assert not modules & (NEVER | {"aiosqlite", "alembic", "sqlalchemy", "sqlite3"})


def test_a_service_with_sqlite_imports_no_other_database_and_migrates_with_alembic_only_once(
    tmp_path: Path,
) -> None:
    first = started_modules(tmp_path)
    assert {"aiosqlite", "alembic", "sqlalchemy"} <= first
    again = started_modules(tmp_path)
    assert {"aiosqlite", "sqlalchemy"} <= again
    assert not again & (NEVER | {"alembic"})
