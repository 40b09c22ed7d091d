"""The command ``doctor``: a line for each check, and its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
import redis

from falcon_pachinko.backends.redis import doctor as redis_doctor

from {{ cookiecutter.package_name }} import doctor, settings
from {{ cookiecutter.package_name }}.__main__ import main
from {{ cookiecutter.package_name }}.database import migrate

from ..provider import running_provider
from ..valkey import running_valkey

CHECKS = [
    *("settings", "hosts", "sign-in", "open files", "stop", "database"),
    *("Redis", "version", "rights", "memory", "clock", "latency", "nodes", "keys"),
]

Diagnose = Callable[[], tuple[int, list[str]]]


@pytest.fixture
def diagnose(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    secret: str,
) -> Diagnose:
    """Run the command without a .env file; return its status and its lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_SECRET", secret)
    monkeypatch.setenv("APP_ENVIRONMENT", "test")
    # NOTE: the limit of this process would be raised, and is another one on each machine.
    monkeypatch.setattr(doctor, "raise_open_files", lambda: 65_536)
    # NOTE: other programs may keep the machine busy.
    monkeypatch.setattr(redis_doctor, "MAX_LATENCY_SECONDS", 1.0)

    def diagnose() -> tuple[int, list[str]]:
        with pytest.raises(SystemExit) as ended:
            main(["doctor"])
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out.splitlines()

    return diagnose


def test_one_process_needs_no_redis(diagnose: Diagnose) -> None:
    assert diagnose() == (
        0,
        [
            "ok       settings: valid, with APP_ENVIRONMENT=test",
            "ok       hosts: the service answers to this machine",
            "ok       sign-in: users sign in by name, without a proof",
            "ok       open files: 65536 are allowed, 10200 are needed",
            "ok       stop: it takes at most 50 s: stop_grace_period, TimeoutStopSec or the like",
            "ok       database: SQLite, var/messages.db: the first start creates it",
            "ok       Redis: one process needs none",
        ],
    )


def test_invalid_settings_are_a_failure_without_a_secret(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PORT", "http")
    monkeypatch.setenv("APP_SECRET", "too-short-a-secret")
    status, [line] = diagnose()
    assert status == 1
    assert line.startswith("failure  settings: APP_PORT: ")
    assert line.endswith("; next: correct them in the environment or in .env")
    assert "too-short-a-secret" not in line


def test_a_public_service_without_a_name_is_a_warning(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "production")
    status, lines = diagnose()
    assert status == 0
    assert lines[1] == (
        "warning  hosts: the service answers to any host name; next: set APP_PUBLIC_ORIGIN, such as"
        " https://chat.example.com"
    )
    monkeypatch.setenv("APP_PUBLIC_ORIGIN", "https://chat.example.com")
    assert diagnose()[1][1] == "ok       hosts: the service answers to chat.example.com"


def test_a_public_service_without_a_sign_in_is_a_warning(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "production")
    status, lines = diagnose()
    assert status == 0
    assert lines[2] == (
        "warning  sign-in: no user can sign in; programs with a token of this service can;"
        " next: set APP_OIDC_ISSUER and APP_OIDC_CLIENT_ID, see docs/identity.md"
    )


def test_the_longest_stop_is_reported_and_what_makes_it_shorter_without_other_nodes(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "production")
    longest = "ok       stop: it takes at most 75 s: stop_grace_period, TimeoutStopSec or the like"
    advice = (
        "; no other node takes the clients meanwhile: APP_DRAIN_DELAY_SECONDS=0 and APP_DRAIN_SECONDS=0"
        " make a restart shorter"
    )
    assert longest + advice in diagnose()[1]
    monkeypatch.setenv("APP_DRAIN_DELAY_SECONDS", "0")
    monkeypatch.setenv("APP_DRAIN_SECONDS", "0")
    assert longest.replace("75", "50") in diagnose()[1]


def test_a_misspelt_setting_is_a_warning(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_PUBLIC_ORIGNI", "https://chat.example.com")
    Path(".env").write_text("APP_VERSION=1\nOTHER=1\n", encoding="utf-8")
    status, lines = diagnose()
    assert status == 0
    assert lines[1:3] == [
        "warning  settings: APP_PUBLIC_ORIGNI is not a setting, and is ignored; next: is"
        " APP_PUBLIC_ORIGIN meant?",
        "warning  settings: APP_VERSION is not a setting, and is ignored; next: see docs/settings.md for"
        " all settings",
    ]


@pytest.mark.slow
def test_the_identity_provider_is_checked(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_provider() as provider:
        for name, value in provider.variables().items():
            monkeypatch.setenv(name, value)
        status, lines = diagnose()
        assert status == 0
        assert lines[2:4] == [
            f"ok       sign-in: users sign in at {provider.issuer}",
            "ok       provider: its metadata and its keys are valid",
        ]
        provider.fault = "text"
        status, lines = diagnose()
        assert status == 1
        assert lines[3].startswith(f"failure  provider: {provider.issuer}: HTTP 200 without")
        assert "next: check APP_OIDC_ISSUER" in lines[3]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (None, "ok       open files: no limit, 10200 are needed"),
        (
            1_024,
            "warning  open files: 1024 are allowed, which is enough for 824 connections;"
            " next: allow 10200 (ulimit -n), or lower APP_MAX_CONNECTIONS",
        ),
    ],
)
def test_too_few_open_files_are_a_warning(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, files: int | None, line: str
) -> None:
    monkeypatch.setattr(doctor, "raise_open_files", lambda: files)
    status, lines = diagnose()
    assert (status, lines[3]) == (0, line)


def test_an_unreachable_redis_is_a_failure_without_its_password(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_BACKEND_URL", "redis://chat:a-password@127.0.0.1:1/0")
    status, [*_, line] = diagnose()
    assert status == 1
    assert line.startswith("failure  Redis: cannot connect to redis://127.0.0.1:1/0: ")
    assert "a-password" not in line


@pytest.mark.slow
def test_the_database_is_checked_without_a_change(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert diagnose()[0] == 0
    assert not Path("var").exists()
    asyncio.run(migrate("sqlite:///var/messages.db"))
    line = "ok       database: SQLite, var/messages.db: writable, with schema 0002"
    assert diagnose() == (0, [ANY, ANY, ANY, ANY, ANY, line, ANY])
    asyncio.run(migrate("sqlite:///var/messages.db", "base"))
    assert diagnose()[1][5].endswith(
        "with schema base, and this service has 0002: the next start migrates it"
    )
    with contextlib.closing(sqlite3.connect("var/messages.db")) as newer:
        newer.execute("INSERT INTO alembic_version VALUES ('9999')")
        newer.execute("CREATE TABLE messages (id TEXT)")
        newer.commit()
    status, lines = diagnose()
    assert status == 0
    assert lines[5].startswith("warning  database: ")
    assert lines[5].endswith("; next: deploy the newer version of the service")
    monkeypatch.setenv("APP_DATABASE_URL", "none")
    assert diagnose()[1][5] == "ok       database: none: no message is stored"


def test_an_unusable_database_is_a_failure_without_its_password(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_step = "; next: check APP_DATABASE_URL, and the rights of this user there"
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://chat:a-password@127.0.0.1:1/chat")
    status, lines = diagnose()
    assert status == 1
    assert lines[5].startswith("failure  database: PostgreSQL, 127.0.0.1:1/chat: ")
    assert lines[5].endswith(next_step)
    assert "a-password" not in lines[5]
    Path("other.db").write_text("not a database " * 100, encoding="utf-8")
    monkeypatch.setenv("APP_DATABASE_URL", "sqlite:///other.db")
    status, lines = diagnose()
    assert status == 1
    assert lines[5] == f"failure  database: SQLite, other.db: file is not a database{next_step}"
    monkeypatch.setenv("APP_DATABASE_URL", "sqlite:///other.db/messages.db")
    assert diagnose()[0] == 1


def test_sqlite_for_several_nodes_is_a_warning(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_BACKEND_URL", "redis://127.0.0.1:1/0")
    assert diagnose()[1][5] == (
        "warning  database: SQLite, var/messages.db: nodes on other machines do not have its messages;"
        " next: set APP_DATABASE_URL to a PostgreSQL"
    )


@pytest.mark.redis
def test_each_check_of_redis_has_a_line(
    diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "none")
    with running_valkey() as valkey:
        monkeypatch.setenv("APP_BACKEND_URL", valkey.url)
        status, lines = diagnose()
    assert status == 0
    assert [re.sub(r"^ok +(.*?): .*", r"\1", line) for line in lines] == CHECKS


def documented_rules() -> list[str]:
    """Return the rights that docs/scaling.md gives to the user of the service."""
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    found = re.search(r"^user chat (.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1].split()


@pytest.mark.redis
def test_the_documented_rights_suffice(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "none")
    with running_valkey() as valkey:
        with redis.Redis(port=valkey.port) as client:
            client.execute_command("ACL", "SETUSER", "chat", *documented_rules())
        url = valkey.url.replace("//", "//chat:a-long-password@")
        monkeypatch.setenv("APP_BACKEND_URL", url)
        status, lines = diagnose()
    assert status == 0, lines
    assert "ok       rights: the user may execute all commands of a node" in lines
    assert [line for line in lines if not line.startswith("ok ")] == [
        "skipped  keys: the user has not the right +scan; next: give it +scan to check this"
    ]
    assert settings.PACKAGE in " ".join(documented_rules())
