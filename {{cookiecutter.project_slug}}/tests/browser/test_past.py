"""The past of a room: after a reload, in another room and for a new user; pages while the user scrolls up."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.message_ids import time_ms
from {{ cookiecutter.package_name }}.records import NewMessage
from {{ cookiecutter.package_name }}.store import MessageStore

from .pages import (
    LOST_CONNECTION,
    WAIT_SECONDS,
    expect_connected,
    expect_messages,
    message,
    messages,
    notes,
    open_room,
    send_message,
    sign_in,
    texts,
)
from .relay import relay_to
from .test_recovery import MISSING
from .test_restart import expect_waiting

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, NewWindow, PageErrors

STORED = 120


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
def stored_server(serve: Callable[..., Server], url: str) -> Server:
    """A service whose database a test fills."""
    return serve(APP_DATABASE_URL=url)


def fill(url: str, room: str, count: int = STORED, word: str = "number") -> list[str]:
    """Store messages in a room, as if they had been sent, and return their texts."""

    async def add() -> list[str]:
        store = MessageStore(url)
        await store.open()
        found = [f"{word} {number}" for number in range(count)]
        for text in found:
            where = app.ROOM_PREFIX + room
            await store.add(NewMessage(room=where, user_id="c", user_name="Carol", text=text))
        await store.aclose()
        return found

    with ThreadPoolExecutor() as threads:  # This thread runs Playwright's event loop.
        return threads.submit(asyncio.run, add()).result(WAIT_SECONDS)


def scroll_to_top(page: Page) -> None:
    page.locator("#conversation").evaluate("(frame) => frame.scrollTo(0, 0)")


def test_messages_are_still_there_after_a_reload_and_for_a_new_user(
    new_user: NewUser, room: str
) -> None:
    alice = new_user("Alice")
    send_message(alice, "one")
    send_message(alice, "two")
    expect_messages(alice, "one", "two")
    shown = messages(alice).locator("time").last.get_attribute("datetime")
    alice.reload()
    expect_connected(alice)
    expect_messages(alice, "one", "two")
    expect(messages(alice).first).to_have_class("message own")
    assert messages(alice).locator("time").last.get_attribute("datetime")[:16] == shown[:16]  # type: ignore[index]
    bob = new_user("Bob")
    expect_messages(bob, "one", "two")
    send_message(bob, "three")
    for page in (alice, bob):
        expect_messages(page, "one", "two", "three")


def test_each_room_shows_its_own_past(new_user: NewUser, room: str) -> None:
    alice = new_user("Alice")
    send_message(alice, "in the first room")
    expect_messages(alice, "in the first room")
    open_room(alice, f"{room}-2")
    expect_connected(alice)
    send_message(alice, "in the second room")
    expect_messages(alice, "in the second room")
    open_room(alice, room)
    expect_messages(alice, "in the first room")


def test_scrolling_up_loads_earlier_messages_and_keeps_the_place(
    new_user: NewUser, stored_server: Server, url: str, room: str
) -> None:
    stored = fill(url, room)
    alice = new_user("Alice", at=stored_server)
    expect(texts(alice)).to_have_text(stored[-50:])
    expect(texts(alice).last).to_be_in_viewport()
    first = texts(alice).first
    before = first.text_content()
    scroll_to_top(alice)
    expect(texts(alice)).to_have_count(100)
    expect(alice.get_by_text(str(before), exact=True)).to_be_in_viewport()
    scroll_to_top(alice)
    expect(texts(alice)).to_have_text(stored)
    expect(alice.locator("#earlier")).to_be_hidden()
    assert messages(alice).nth(1).get_attribute("class") == "message continued"


def test_loading_can_be_repeated_after_an_error(
    new_user: NewUser, stored_server: Server, url: str, room: str
) -> None:
    stored = fill(url, room)
    with relay_to(stored_server.url) as relay:
        alice = new_user("Alice", at=relay)
        expect(texts(alice)).to_have_text(stored[-50:])
        relay.mute()
        scroll_to_top(alice)
        earlier = alice.locator("#earlier")
        expect(earlier).to_have_text("Earlier messages could not be loaded. Try again")
        relay.restore()
        earlier.click()
        expect(texts(alice)).to_have_count(100)
        expect(earlier).to_have_text("Load earlier messages")


def test_earlier_messages_are_loaded_after_a_lost_connection(
    new_user: NewUser, stored_server: Server, url: str, page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    stored = fill(url, room)
    with relay_to(stored_server.url) as relay:
        alice = new_user("Alice", at=relay)
        expect(texts(alice)).to_have_text(stored[-50:])
        relay.cut()
        expect_waiting(alice)
        scroll_to_top(alice)
        relay.restore()
        expect_connected(alice)
        alice.locator("#earlier").click()
        expect(texts(alice)).to_have_count(100)
        scroll_to_top(alice)
        expect(texts(alice)).to_have_text(stored)
        expect(alice.locator("#earlier")).to_be_hidden()


def test_what_is_before_a_long_gap_is_loaded_again_without_a_break(
    new_user: NewUser, stored_server: Server, url: str, page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    with relay_to(stored_server.url) as relay:
        alice = new_user("Alice", at=relay)
        send_message(alice, "before")
        expect_messages(alice, "before")
        relay.cut()
        expect_waiting(alice)
        stored = fill(url, room)
        bob = new_user("Bob", at=stored_server)
        for number in range(101):  # More than the room's buffer has.
            send_message(bob, f"live {number}")
        expect(texts(bob).last).to_have_text("live 100")
        relay.restore()
        expect_connected(alice)
        live = [f"live {number}" for number in range(101)]
        expect(texts(alice)).to_have_text(live[-50:])
        expect(texts(alice).last).to_be_in_viewport()
        for count in (100, 150, 200, 222):
            scroll_to_top(alice)
            expect(texts(alice)).to_have_count(count)
        expect_messages(alice, "before", *stored, *live)
        expect(notes(alice).filter(has_text=MISSING)).to_have_count(0)


def test_a_gap_below_what_is_read_is_filled(
    new_user: NewUser, serve: Callable[..., Server], url: str, page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_DATABASE_URL=url, APP_HISTORY_MESSAGES="1")
    stored = fill(url, room, 60)
    with relay_to(server.url) as relay:
        alice = new_user("Alice", at=relay)
        expect(texts(alice)).to_have_text(stored[-50:])
        read = message(alice, "number 35")
        read.evaluate("(entry) => entry.scrollIntoView({ block: 'center' })")
        expect(messages(alice).last).not_to_be_in_viewport()
        relay.cut()
        expect_waiting(alice)
        missed = fill(url, room, 60, "missed")
        bob = new_user("Bob", at=server)
        for text in ("one", "two"):
            send_message(bob, text)
        expect(texts(bob).last).to_have_text("two")
        relay.restore()
        expect_connected(alice)
        expect(texts(alice)).to_have_text([*stored[-50:], *missed, "one", "two"])
        expect(read).to_be_in_viewport()
        expect(alice.locator("#newer-count")).to_have_text("62 new messages")
        expect(notes(alice).filter(has_text=MISSING)).to_have_count(0)


def test_a_loss_of_the_rooms_buffer_is_filled_from_the_store(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_HISTORY_MESSAGES="1")
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        send_message(alice, "before")
        expect_messages(bob, "before")
        relay.cut()
        expect_waiting(alice)
        missed = [f"missed {number}" for number in range(5)]
        for text in missed:
            send_message(bob, text)
        expect_messages(bob, "before", *missed)
        relay.restore()
        expect_connected(alice)
        expect_messages(alice, "before", *missed)
        expect(notes(alice).filter(has_text=MISSING)).to_have_count(0)


def test_a_message_that_arrives_late_is_shown_in_its_place(
    new_window: NewWindow, new_user: NewUser, stored_server: Server, url: str, room: str
) -> None:
    stored = fill(url, room)
    held: list[dict[str, Any]] = []
    sockets: list[WebSocketRoute] = []

    def hold_late(browser: WebSocketRoute) -> None:
        def receive(text: str | bytes) -> None:
            if '"text":"late"' in str(text):
                held.append(json.loads(text))
            else:
                browser.send(text)

        browser.connect_to_server().on_message(receive)
        sockets.append(browser)

    alice = new_window(at=stored_server).new_page()
    alice.route_web_socket(re.compile("^ws"), hold_late)
    open_room(alice, room)
    sign_in(alice, "Alice")
    expect(texts(alice)).to_have_text(stored[-50:])
    bob = new_user("Bob", at=stored_server)
    for text in ("one", "late", "two"):
        send_message(bob, text)
    expect(texts(alice)).to_have_text([*stored[-50:], "one", "two"])
    [late] = held
    del late["id"]  # By its position in the room the client would drop it.
    # The page has not loaded the messages between this one and the first one that it shows.
    early = late | {"payload": late["payload"] | {"text": "early", "messageId": "0" * 28}}
    for each in (early, late):
        sockets[-1].send(json.dumps(each))
    expect(texts(alice)).to_have_text([*stored[-50:], "one", "late", "two"])
    expect(texts(alice).last).to_be_in_viewport()


def test_a_message_of_yesterday_is_below_its_day(
    new_user: NewUser, stored_server: Server, url: str, room: str
) -> None:
    fill(url, room, 1)
    alice = new_user("Alice", at=stored_server)
    expect_messages(alice, "number 0")
    expect(alice.get_by_role("log").locator(".day")).to_have_count(0)
    alice.clock.set_fixed_time(time_ms() + 24 * 3600 * 1000)
    alice.reload()
    expect_connected(alice)
    expect_messages(alice, "number 0")
    days = alice.get_by_role("log").locator(".day")
    expect(days).to_have_count(2)
    expect(days.last.locator("time")).to_be_visible()
