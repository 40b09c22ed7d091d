"""The past of a room: after a reload, in another room and for a new user; pages while the user scrolls up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from {{ cookiecutter.package_name }} import app
from {{ cookiecutter.package_name }}.message_ids import time_ms
from {{ cookiecutter.package_name }}.records import NewMessage
from {{ cookiecutter.package_name }}.store import MessageStore

from .pages import (
    LOST_CONNECTION,
    WAIT_SECONDS,
    expect_connected,
    expect_messages,
    messages,
    notes,
    open_room,
    send_message,
    texts,
)
from .relay import relay_to
from .test_recovery import MISSING
from .test_restart import expect_waiting

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, PageErrors

STORED = 120


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
def stored_server(serve: Callable[..., Server], url: str) -> Server:
    """A service whose database a test fills."""
    return serve(APP_DATABASE_URL=url)


def fill(url: str, room: str, count: int = STORED) -> list[str]:
    """Store messages in a room, as if they had been sent, and return their texts."""

    async def add() -> list[str]:
        store = MessageStore(url)
        await store.open()
        found = [f"number {number}" for number in range(count)]
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


def test_a_long_gap_is_filled_without_a_break(
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
        expect_messages(alice, "before", *stored, *live)
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
