"""The user that the claims of a provider describe."""

from __future__ import annotations

from typing import Any

import pytest

from {{ cookiecutter.package_name }}.oidc.claims import ClaimNames, InvalidToken


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Alice", "email": "a@example.com"}, "Alice"),
        ({"name": " Zoë "}, "Zoë"),
        ({"name": "", "preferred_username": "alice"}, "alice"),
        ({"name": "a\u202eb", "email": "a@example.com"}, "a@example.com"),
        ({"name": ["Alice"]}, "u1"),
        ({"name": "x" * 256}, "u1"),
        ({}, "u1"),
    ],
)
def test_a_name_that_is_not_valid_is_replaced(claims: dict[str, Any], name: str) -> None:
    user = ClaimNames().user({"sub": "u1"} | claims)
    assert (user.id, user.name) == ("u1", name)


@pytest.mark.parametrize("found", [None, "", " ", "a\nb", "x" * 256, ["u1"], {"a": 1}, 1.5])
def test_an_id_that_is_not_valid_is_refused(found: object) -> None:
    with pytest.raises(InvalidToken, match="'sub' is not a valid id"):
        ClaimNames().user({"sub": found})


def test_an_id_may_be_a_number_and_in_another_claim() -> None:
    assert ClaimNames(id="oid").user({"sub": "u1", "oid": 17}).id == "17"


@pytest.mark.parametrize(
    ("path", "claims", "roles"),
    [
        ("roles", {"roles": ["staff", "a"]}, {"staff", "a"}),
        ("roles", {"roles": "staff"}, {"staff"}),
        ("roles", {}, set()),
        ("roles", {"roles": {"staff": True}}, set()),
        ("roles", {"roles": ["staff", 7, None, "", "a\nb"]}, {"staff"}),
        ("realm_access.roles", {"realm_access": {"roles": ["staff"]}}, {"staff"}),
        ("realm_access.roles", {"realm_access": "staff"}, set()),
        ("https://chat.example/roles", {"https://chat.example/roles": ["staff"]}, {"staff"}),
    ],
)
def test_roles(path: str, claims: dict[str, Any], roles: set[str]) -> None:
    assert ClaimNames(roles=path).user({"sub": "u1"} | claims).roles == roles


def test_too_many_roles_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    claims = {"sub": "u1", "roles": [f"role {number}" for number in range(1_000)]}
    assert ClaimNames().user(claims).roles == frozenset()
    assert "the roles in the claim 'roles' are left out" in caplog.text
