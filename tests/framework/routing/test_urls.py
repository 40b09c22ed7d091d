"""URLs of named routes: their encoding, and values that no URL has."""

import datetime
import re
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import falcon.routing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import RegistrationError
from falcon_pachinko.routing.urls import RouteURL

UNRESERVED = re.compile(r"/rooms/(?:[A-Za-z0-9._~-]|%[0-9A-F]{2})+")


def url(template: str) -> RouteURL:
    return RouteURL(template, {})


@pytest.mark.parametrize(
    ("template", "values", "path"),
    [
        ("/ws", {}, "/ws"),
        ("/chat/{room_name}", {"room_name": "a b"}, "/chat/a%20b"),
        ("/chat/{name}", {"name": "50%?#&+"}, "/chat/50%25%3F%23%26%2B"),
        ("/chat/{name}", {"name": "grün 🎉"}, "/chat/gr%C3%BCn%20%F0%9F%8E%89"),
        ("/chat/{name}/{number:int}", {"name": "a.b~c-d_e", "number": 7}, "/chat/a.b~c-d_e/7"),
        ("/v{major}.{minor}", {"major": "1", "minor": 2}, "/v1.2"),
        ("/grün/@me/{name}", {"name": "x"}, "/gr%C3%BCn/@me/x"),
        ("/files/{rest:path}", {"rest": "a/b c"}, "/files/a/b%20c"),
        ("/{id:uuid}", {"id": uuid.UUID(int=1)}, "/00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values_are_percent_encoded(template: str, values: dict[str, Any], path: str) -> None:
    assert url(template).path_of(values) == path


@given(st.text(min_size=1).filter(lambda text: "/" not in text and text not in (".", "..")))
def test_any_text_without_a_slash_comes_back_from_the_url(text: str) -> None:
    path = url("/rooms/{name}").path_of({"name": text})
    assert UNRESERVED.fullmatch(path)
    assert urlsplit(f"ws://localhost{path}").path == path
    assert unquote(path) == f"/rooms/{text}"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("/chat/{name}", {"name": ""}),
        ("/chat/{name}", {"name": "a/b"}),
        ("/chat/{name}", {"name": "."}),
        ("/chat/{name}", {"name": ".."}),
        ("/chat/{number:int}", {"number": "seven"}),
        ("/chat/{day:dt}", {"day": datetime.date(2024, 1, 1)}),
        ("/files/{rest:path}", {"rest": "a/../b"}),
        ("/{first}-{second}", {"first": "a", "second": "b-c"}),
        ("/chat/{name}", {"name": "\ud800"}),
    ],
)
def test_a_value_that_no_url_has_is_refused(template: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"has no URL with|surrogates"):
        url(template).path_of(values)


def test_a_long_value_is_shortened_in_the_text_of_the_error() -> None:
    with pytest.raises(ValueError, match="has no URL") as error:
        url("/{name}").path_of({"name": "/" * 10_000})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "'/{a}/{b}' needs a, b"),
        ({"a": 1}, "'/{a}/{b}' needs b"),
        ({"a": 1, "b": 2, "d": 3, "c": 4}, "'/{a}/{b}' has no field c, d"),
    ],
)
def test_missing_and_unknown_fields_are_named(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(RegistrationError, match=re.escape(problem)):
        url("/{a}/{b}").path_of(values)


def test_converters_of_the_application_decide_which_values_match() -> None:
    class Even(falcon.routing.BaseConverter):
        def convert(self, value: str) -> int | None:
            return int(value) if value.isdecimal() and int(value) % 2 == 0 else None

    even = RouteURL("/{number:even}", {"even": Even})
    assert even.path_of({"number": 4}) == "/4"
    with pytest.raises(ValueError, match="has no URL"):
        even.path_of({"number": 5})
