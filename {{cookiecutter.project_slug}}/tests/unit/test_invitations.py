"""Invitation links to private rooms."""

from __future__ import annotations

import pytest

from {{ cookiecutter.package_name }}.invitations import (
    Invitations,
    split_invitation,
)

OTHER_SECRET = "another-secret-of-thirty-two-bytes-or-more"
ROOM = "private-Zoë's team"


@pytest.fixture
def invitations(secret: str) -> Invitations:
    return Invitations([secret], "chat:test")


def test_a_link_admits_to_its_room_only(invitations: Invitations) -> None:
    room, code = split_invitation(invitations.invite(ROOM, 60))
    assert room == ROOM
    assert invitations.admits(ROOM, code)
    assert not invitations.admits("private-other", code)
    assert not invitations.admits(ROOM, "")


def test_a_link_ends(invitations: Invitations) -> None:
    _, code = split_invitation(invitations.invite(ROOM, -1))
    assert not invitations.admits(ROOM, code)


def test_an_altered_code_is_refused(invitations: Invitations) -> None:
    _, code = split_invitation(invitations.invite(ROOM, 60))
    end, _, signature = code.partition(".")
    later = f"{int(end) + 1}.{signature}"
    for altered in (later, f"{end}.", f"{end}.{'A' * 22}", code + "A", f"9{code}", "x.y", "~"):
        assert not invitations.admits(ROOM, altered)


def test_a_link_is_of_one_service_and_environment(secret: str, invitations: Invitations) -> None:
    _, code = split_invitation(invitations.invite(ROOM, 60))
    assert not Invitations([secret], "chat:production").admits(ROOM, code)
    assert not Invitations([OTHER_SECRET], "chat:test").admits(ROOM, code)
    assert Invitations([OTHER_SECRET, secret], "chat:test").admits(ROOM, code)


@pytest.mark.parametrize("room", ["general", "staff", "private-a~b"])
def test_only_private_rooms_have_links(invitations: Invitations, room: str) -> None:
    with pytest.raises(ValueError, match="is not a private room"):
        invitations.invite(room, 60)


def test_the_name_of_another_room_may_have_a_tilde() -> None:
    assert split_invitation("a~b") == ("a~b", "")
    assert split_invitation("private-a~b~c") == ("private-a", "b~c")
    assert split_invitation("private-a") == ("private-a", "")
