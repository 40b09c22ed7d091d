"""The names that sign-in accepts."""

from __future__ import annotations

import falcon
import pytest

from {{ cookiecutter.package_name }}.resources import session


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Alice", "Alice"),
        ("Zoe\u0308", "Zoë"),
        ("  Alice B. \n", "Alice B."),
        ("A", "A"),
        ("x" * 40, "x" * 40),
        (" " * 50 + "Alice", "Alice"),
        ("Zoë 房间 😀", "Zoë 房间 😀"),
        ("<b>Alice</b>", "<b>Alice</b>"),
        ("👩‍🚀", "👩‍🚀"),
    ],
)
def test_a_name_has_one_to_forty_characters(given: str, name: str) -> None:
    assert session.read_name({"name": given}) == name


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "0 characters"),
        (" \t\n", "0 characters"),
        ("x" * 41, "41 characters"),
        ("Ali\x00ce", "control character U+0000"),
        ("Ali\nce", "control character U+000A"),
        ("Ali\x7fce", "control character U+007F"),
        ("Ali\u0085ce", "control character U+0085"),
        ("Ali\u2028ce", "control character U+2028"),
        ("Ali\ud800ce", "not valid Unicode"),
        ("Alice\u200b", "invisible character"),
        ("\u202eecilA", "invisible character"),
        ("\u200d", "invisible character U+200D"),
        ("Ali\u200dce", "invisible character U+200D"),
        ("Ali\ue000ce", "private-use character U+E000"),
        ("..", "consists of dots"),
    ],
)
def test_an_invalid_name_is_refused_with_the_reason(given: str, reason: str) -> None:
    with pytest.raises(falcon.HTTPUnprocessableEntity) as refused:
        session.read_name({"name": given})
    assert refused.value.title == "Bad name"
    assert refused.value.description is not None
    assert reason in refused.value.description


@pytest.mark.parametrize("media", [None, "Alice", ["Alice"], {}, {"name": None}, {"name": 7}])
def test_a_body_without_a_name_is_refused_with_an_example(media: object) -> None:
    with pytest.raises(falcon.HTTPUnprocessableEntity) as refused:
        session.read_name(media)
    assert refused.value.title == "No name"
    assert '{"name": "Alice"}' in (refused.value.description or "")
