"""Names, prefixes, paths and fields of a new resource."""

from __future__ import annotations

import pytest

from falcon_pachinko.scaffold.new_resource import (
    choose_prefix,
    fields_of,
    paths_overlap,
    snake_case,
)


@pytest.mark.parametrize(
    ("name", "module"),
    [("GameRoom", "game_room"), ("A", "a"), ("HTTPRoom", "http_room"), ("Room2Go", "room2_go")],
)
def test_the_module_name_is_the_resource_name_in_snake_case(name: str, module: str) -> None:
    assert snake_case(name) == module


@pytest.mark.parametrize(
    ("taken", "prefix"),
    [
        ([], "game:"),
        (["chat_"], "game:"),
        (["g"], "room:game:"),
        (["game:x", "room"], "ws:game:"),
        (["g", "r", "w"], "a:game:"),
    ],
)
def test_the_default_prefix_is_not_ambiguous(taken: list[str], prefix: str) -> None:
    assert choose_prefix(None, "game", dict.fromkeys(taken, "somewhere")) == prefix


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a", "/a/b", False),
        ("/a/{b}", "/a/c", True),
        ("/{a}/b", "/c/{d}", True),
        ("/{a}/b", "/c/d", False),
        ("/a/b/c", "/a/{rest:path}", True),
        ("/b/b/c", "/a/{rest:path}", False),
    ],
)
def test_paths_overlap_if_one_url_matches_both(one: str, other: str, overlap: bool) -> None:
    assert paths_overlap(one, other) is overlap


def test_fields_have_converters() -> None:
    assert fields_of("/ws/{team}/{number:int}") == {"team": "", "number": "int"}
