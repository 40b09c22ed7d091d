"""Users: their checks, and what they may do."""

from __future__ import annotations

import pytest

from {{ cookiecutter.package_name }}.users import User, authorize


def test_id_name_and_roles_are_normalized() -> None:
    user = User("Zoe\u0308", "Zoe\u0308", frozenset({"Zoe\u0308"}))
    assert (user.id, user.name, user.roles) == ("Zoë", "Zoë", frozenset({"Zoë"}))


@pytest.mark.parametrize(
    "name", ["Alice", "Zoë 房间 😀", "👩‍🚀", "क्‍ष", "<b>Alice</b>", "You", "System", "Announcement"]
)
def test_a_name_may_be_any_displayable_text(name: str) -> None:
    assert User("u1", name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\u2800",
        "\u3164",
        "Ali\x00ce",
        "Ali\u202ece",
        "Ali\u200dce",
        "\u200d",
        "\ud800",
        "x" * 256,
    ],
)
def test_an_invalid_id_or_name_or_role_is_refused(name: str) -> None:
    for user_id, user_name, role in (
        (name, "Alice", "staff"),
        ("u1", name, "staff"),
        ("u1", "Alice", name),
    ):
        with pytest.raises(ValueError, match=r"^the user "):
            User(user_id, user_name, frozenset({role}))


def test_too_many_roles_are_refused() -> None:
    with pytest.raises(ValueError, match="100 roles"):
        User("u1", "Alice", frozenset(f"role {number}" for number in range(100)))


@pytest.mark.parametrize(
    ("roles", "action", "room", "is_invited", "may"),
    [
        ((), "join", "general", False, True),
        ((), "send", "general", False, True),
        ((), "send", None, False, True),
        ((), "moderate", "general", False, False),
        ((), "moderate", None, False, False),
        (("staff",), "moderate", "general", False, True),
        ((), "join", "staff", False, False),
        ((), "join", "staff-lounge", True, False),
        (("other",), "join", "staff", False, False),
        (("staff",), "join", "staff", False, True),
        (("staff",), "send", "staff-lounge", False, True),
        ((), "join", "staffordshire", False, True),
        ((), "join", "private-team", False, False),
        ((), "join", "private-team", True, True),
        ((), "send", "private-team", True, True),
        (("staff",), "join", "private-team", False, True),
    ],
)
async def test_rooms_of_staff_and_private_rooms_are_not_for_everybody(
    roles: tuple[str, ...], action: str, room: str | None, is_invited: bool, may: bool
) -> None:
    user = User("u1", "Alice", frozenset(roles))
    assert await authorize(user, action, room, is_invited=is_invited) is may
