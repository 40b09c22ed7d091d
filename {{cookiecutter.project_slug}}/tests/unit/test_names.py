"""The remembered names of users."""

from __future__ import annotations

import pytest

from {{ cookiecutter.package_name }} import names


def test_the_last_name_is_remembered_and_an_unknown_user_has_its_id() -> None:
    remembered = names.Names()
    remembered.add("u1", "Alice")
    remembered.add("u1", "Alice B.")
    assert remembered.of("u1") == "Alice B."
    assert remembered.of("u2") == "u2"


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MAX_NAMES", 3)
    remembered = names.Names()
    for user in ("u1", "u2", "u3", "u1", "u4"):
        remembered.add(user, f"name of {user}")
    assert [remembered.of(f"u{number}") for number in range(1, 5)] == [
        "name of u1",
        "u2",
        "name of u3",
        "name of u4",
    ]
