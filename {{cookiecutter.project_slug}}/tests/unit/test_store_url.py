"""The URL of the database of messages: which forms are accepted, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from {{ cookiecutter.package_name }} import store_url
from {{ cookiecutter.package_name }}.store_url import (
    check_store_url,
    resolve_store_url,
    sqlite_path,
)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "none",
        "sqlite:///var/messages.db",
        "sqlite:////srv/chat/100% of it?.db",
        "postgresql://chat:p%40ss@db.example.com:5432/chat?sslmode=require",
        "postgres://chat@db.example.com/chat",
        "postgresql:///chat?host=/run/postgresql",
        "postgresql://[::1]:5433/chat",
    ],
)
def test_a_url_of_a_database_is_accepted(url: str) -> None:
    check_store_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://hunter2.db",
        "hunter2",
        "mysql://chat:hunter2@localhost/chat",
        "postgresql+asyncpg://chat:hunter2@localhost/chat",
        "postgresql:chat:hunter2@localhost",
        "postgresql://chat:hunter/2@localhost/chat",
        "postgresql://chat:hunt@er2@localhost/chat",
        "postgresql://chat@localhost:hunter2/chat",
        "postgresql://chat@localhost:0/chat?password=hunter2",
        "postgresql://[hunter2/chat",
    ],
)
def test_another_url_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ValueError, match="write sqlite:///path") as refused:
        check_store_url(url)
    assert "hunter" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_postgresql_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_url, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"the extra 'postgres'"):
        check_store_url("postgresql://localhost/chat")
    check_store_url("sqlite:///messages.db")


@pytest.mark.parametrize(
    ("url", "folder", "expected"),
    [
        ("", "var", "sqlite:///var/messages.db"),
        ("", "/srv/chat", "sqlite:////srv/chat/messages.db"),
        ("", "", ""),
        ("none", "var", ""),
        ("sqlite:///other.db", "var", "sqlite:///other.db"),
        ("postgresql://db/chat", "", "postgresql://db/chat"),
    ],
)
def test_the_default_is_a_file_in_the_state_folder(url: str, folder: str, expected: str) -> None:
    assert resolve_store_url(url, folder) == expected


def test_the_path_of_sqlite_is_taken_unchanged() -> None:
    assert sqlite_path("sqlite:////srv/100%25?.db") == Path("/srv/100%25?.db")
    assert sqlite_path("postgresql://db/chat") is None
