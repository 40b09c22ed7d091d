"""Names of rooms and users: valid and invalid ones, and their form within a sentence."""

import logging
import re
import unicodedata
from typing import Any

import falcon.asgi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_pachinko import (
    InvalidRoomName,
    Reject,
    WebSocketLike,
    WebSocketResource,
    handles_message,
    install,
)
from falcon_pachinko.names import (
    MAX_USER_NAME_BYTES,
    check_room_name,
    check_user_name,
    display_name,
    fault_of_name,
)
from falcon_pachinko.testing import serve
from falcon_pachinko.uvicorn import PushProtocol

VALID = {
    "one letter": "a",
    "200 bytes": "x" * 200,
    "200 bytes of two each": "Ä" * 100,
    "a space inside": "with space",
    "no-break space inside": "a\u00a0b",
    "punctuation": "{}/?#%'\"<b>&",
    "three dots": "...",
    "a dot before": ".room",
    "upper case": "ROOM",
    "an emoji": "💬",
    "a family of emoji": "👨‍👩‍👧‍👦",
    "an emoji with a skin tone": "👩🏽‍🚀",
    "an emoji with a variation selector": "🏳️‍🌈",
    "a shaking head": "🙂‍↔️",
    "a joiner after a virama": "क्‍ष",
    "a non-joiner after a virama": "क्‌ष",
    "a non-joiner between Arabic letters": "می‌خواهم",
    "Hebrew": "חדר",
    "Chinese": "聊天室",
    "a mark that cannot be composed": "x\u0323",
    "an unassigned character": "a\U000e0fff",
}
INVALID = {
    "empty": ("", "is empty"),
    "201 bytes": ("x" * 201, "201 bytes"),
    "202 bytes": ("Ä" * 101, "202 bytes"),
    "a dot": (".", "consists of dots"),
    "two dots": ("..", "consists of dots"),
    "a line end": ("a\nb", "control character U+000A"),
    "null": ("\x00", "control character U+0000"),
    "delete": ("a\x7fb", "control character U+007F"),
    "next line": ("a\u0085b", "control character U+0085"),
    "a line separator": ("a\u2028b", "control character U+2028"),
    "a paragraph separator": ("a\u2029b", "control character U+2029"),
    "a surrogate": ("a\ud800", "not valid Unicode"),
    "a bidi override": ("a\u202eb", "invisible character U+202E"),
    "an isolate": ("\u2068a\u2069", "invisible character U+2068"),
    "a byte order mark": ("\ufeffa", "invisible character U+FEFF"),
    "a soft hyphen": ("a\u00adb", "invisible character U+00AD"),
    "a tag": ("🏴\U000e0067", "invisible character U+E0067"),
    "private use": ("a\ue000", "private-use character U+E000"),
    "private use of plane 16": ("a\U00100000", "private-use character U+100000"),
    "a blank before": (" a", "begins or ends with a blank"),
    "a blank after": ("a ", "begins or ends with a blank"),
    "a no-break space": ("a\u00a0", "begins or ends with a blank"),
    "an ideographic space": ("\u3000a", "begins or ends with a blank"),
    "a Hangul filler": ("\u3164", "begins or ends with a blank"),
    "a Braille blank": ("\u2800", "begins or ends with a blank"),
    "a mark before": ("\u0301a", "begins with a combining mark"),
    "decomposed": ("e\u0301", "normalization form C"),
    "a compatibility ideograph": ("\uf900", "normalization form C"),
    "a joiner alone": ("\u200d", "invisible character U+200D"),
    "a joiner before": ("\u200da", "invisible character U+200D"),
    "a joiner after": ("👩‍", "invisible character U+200D"),
    "a joiner between Latin letters": ("Ali\u200dce", "invisible character U+200D"),
    "a non-joiner between Latin letters": ("Ali\u200cce", "invisible character U+200C"),
    "two joiners": ("👩‍\u200d🚀", "invisible character U+200D"),
    "a non-joiner between emoji": ("👩\u200c🚀", "invisible character U+200C"),
    "a joiner between Arabic letters": ("ی\u200dخ", "invisible character U+200D"),
    "a joiner after a virama at a space": ("क्\u200d x", "invisible character U+200D"),
    "not a text": (None, "is not a text"),
    "bytes": (b"a", "is not a text"),
}


@pytest.mark.parametrize("name", VALID.values(), ids=VALID)
def test_a_valid_name_is_returned(name: str) -> None:
    assert check_room_name(name) == name
    assert check_user_name(name) == name


@pytest.mark.parametrize(("name", "fault"), INVALID.values(), ids=INVALID)
def test_an_invalid_room_name_is_refused_with_the_fault(name: str, fault: str) -> None:
    with pytest.raises(InvalidRoomName) as refused:
        check_room_name(name)
    assert fault in refused.value.reason
    assert refused.value.code == 4400
    assert isinstance(refused.value, Reject)
    # The reason reaches the page, so it contains nothing of the name.
    assert refused.value.reason.isascii()
    assert refused.value.reason.isprintable()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\ud800", "\u202ea", "x" * (MAX_USER_NAME_BYTES + 1)]
)
def test_an_invalid_user_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="the user") as refused:
        check_user_name(name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("user", ["auth0|5f7c88913", "zoë@example.com", "x" * MAX_USER_NAME_BYTES])
def test_an_identifier_of_an_identity_provider_is_a_user_name(user: str) -> None:
    assert check_user_name(user) == user


@given(st.text(max_size=12))
def test_a_valid_name_is_visible_text_in_normal_form(name: str) -> None:
    if fault_of_name(name, 200):
        return
    assert name.strip() == name != ""
    assert unicodedata.normalize("NFC", name) == name
    barred = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    left = name.replace("\u200c", "").replace("\u200d", "")
    assert left
    assert not barred.intersection(map(unicodedata.category, left))


# --- names within a sentence


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("general", "general"),
        ("Zoë 房间 😀", "Zoë 房间 😀"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
        ("Bob's", "Bob’s"),
        ("x'! You are banned", "x’! You are banned"),
        ("חדר", "\u2068חדר\u2069"),
        ("غرفة 1", "\u2068غرفة 1\u2069"),
        ("١٢", "\u2068١٢\u2069"),
        ("a\U000e0fff", "a\U000e0fff"),
        ("a\u202eb\nc\ud800", "a\ufffdb\ufffdc\ufffd"),
        ("\u2069 and more", "\ufffd and more"),
        ("👩‍🚀", "👩‍🚀"),
        ("👩‍🚀" * 20, "👩‍🚀" * 13 + "…"),
        ("x" * 38 + "a" + "\u0323" * 9, "x" * 38 + "…"),
        ("a" + "\u0323" * 300, "a" + "\u0323" * 19 + "…"),
    ],
)
def test_a_name_in_a_sentence_is_short_and_isolated(name: str, shown: str) -> None:
    assert display_name(name) == shown


@given(st.text(max_size=100))
def test_a_name_in_a_sentence_has_a_bounded_length_and_no_end_of_a_quotation(name: str) -> None:
    shown = display_name(name)
    assert len(shown) <= 42
    assert "'" not in shown
    assert shown.encode() or not name
    inner = shown.removeprefix("\u2068").removesuffix("\u2069")
    barred = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not barred.intersection(map(unicodedata.category, re.sub("[\u200c\u200d]", "", inner)))


# --- names on the wire


class Rooms(WebSocketResource):
    """Joins a room in the path, and rooms that messages name."""

    async def on_connect(
        self, req: falcon.asgi.Request, ws: WebSocketLike, *args: Any, name: str = ""
    ) -> bool:
        await self.join_room(name)
        return True

    @handles_message("join")
    async def join(self, ws: WebSocketLike, payload: dict[str, str]) -> None:
        await self.join_room(payload["room"])


@pytest.mark.asyncio
@pytest.mark.parametrize("ws", [PushProtocol, "websockets-sansio"])
async def test_an_invalid_room_name_closes_with_4400_and_logs_no_traceback(
    ws: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = install(falcon.asgi.App())
    app.add_websocket_route("/rooms/{name}", Rooms)
    caplog.set_level(logging.INFO)
    async with serve(app, ws=ws) as server:
        async with server.connect("/rooms/a%0Ab") as client:
            assert await client.wait_closed() == (
                4400,
                "the room name has the control character U+000A",
            )
        async with server.connect("/rooms/hall") as client:
            await client.send("join", {"room": ".."})
            assert await client.wait_closed() == (4400, "the room name consists of dots")
    assert not [record for record in caplog.records if record.exc_info]
    assert not [record for record in caplog.records if "\n" in record.getMessage()]
