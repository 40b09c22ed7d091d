"""Unread messages: the line where they begin, their numbers in the list of rooms, and what counts as read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import Locator, Page, expect

from .pages import (
    LOST_CONNECTION,
    enter,
    expect_connected,
    expect_messages,
    hide,
    message,
    messages,
    open_room,
    second_tab,
    send_message,
)
from .relay import relay_to
from .test_restart import expect_waiting

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, NewWindow, PageErrors, SignIn

LINE = ".unread-line"


def line_before(page: Page, text: str) -> Locator:
    """Return the line, if it is directly above the message with this text."""
    return message(page, text).locator(f"xpath=preceding-sibling::*[1][@class='{LINE[1:]}']")


def room_link(page: Page, room: str) -> Locator:
    """Return the link to a room in the list."""
    link = page.get_by_role("list", name="Rooms", exact=True).get_by_role("link")
    return link.filter(has=page.locator("bdi", has_text=re.compile(f"^{re.escape(room)}$")))


def marked(page: Page) -> None:
    """Record the messages that the page marks as read."""
    page.add_init_script(
        """
        globalThis.marks = [];
        const { send } = WebSocket.prototype;
        WebSocket.prototype.send = function (text) {
          if (String(text).includes('"clientMarkRead"')) marks.push(Date.now());
          return send.call(this, text);
        };
        """
    )


def test_a_line_shows_what_arrived_while_the_page_was_hidden(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "read")
    expect_messages(alice, "read")
    expect(alice.locator(LINE)).to_have_count(0)
    hide(alice)
    send_message(bob, "one")
    send_message(bob, "two")
    expect_messages(alice, "read", "one", "two")
    expect(line_before(alice, "one")).to_have_text("New messages")
    expect(alice).to_have_title(re.compile(r"^\(2\) "))
    hide(alice, False)
    expect(alice).to_have_title(re.compile(r"^[^(]"))
    expect(line_before(alice, "one")).to_be_visible()
    hide(alice)
    send_message(bob, "three")
    expect_messages(alice, "read", "one", "two", "three")
    expect(line_before(alice, "three")).to_be_visible()
    expect(alice.locator(LINE)).to_have_count(1)
    hide(alice, False)
    send_message(alice, "an answer")
    expect_messages(alice, "read", "one", "two", "three", "an answer")
    expect(alice.locator(LINE)).to_have_count(0)


def test_a_line_shows_what_was_sent_while_the_user_was_away(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "read")
    expect_messages(alice, "read")
    expect(room_link(alice, room)).to_be_visible()
    open_room(alice, f"{room}-2")
    expect_connected(alice)
    expect_messages(alice)
    for text in ("one", "two"):
        send_message(bob, text)
    expect_messages(bob, "read", "one", "two")
    expect(room_link(alice, room)).to_have_accessible_name(re.compile(r"2 unread messages$"))
    room_link(alice, room).click()
    expect_connected(alice)
    expect_messages(alice, "read", "one", "two")
    expect(line_before(alice, "one")).to_be_visible()
    expect(room_link(alice, room)).to_have_accessible_name(room)
    carol = new_user("Carol")
    expect_messages(carol, "read", "one", "two")
    expect(carol.locator(LINE)).to_have_count(0)


def test_a_message_is_read_only_when_it_is_visible_in_a_focused_window(
    new_user: NewUser, room: str
) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for number in range(30):
        send_message(bob, f"number {number}")
    expect(messages(alice)).to_have_count(30)
    alice.locator("#conversation").evaluate("(frame) => frame.scrollTo(0, 0)")
    expect(messages(alice).last).not_to_be_in_viewport()
    alice.wait_for_function("() => document.querySelector('#conversation').scrollTop === 0")
    send_message(bob, "not seen")
    expect(message(alice, "not seen")).to_be_attached()
    alice.reload()
    expect_connected(alice)
    expect(line_before(alice, "not seen")).to_be_visible()


def two_hidden_tabs(new_user: NewUser) -> tuple[Page, Page, Page]:
    """Return two tabs of Alice, which have read a message and are hidden now, and Bob's page."""
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "read")
    expect_messages(alice, "read")
    tab = second_tab(alice)
    expect_messages(tab, "read")
    for page in (alice, tab):
        hide(page)
    return alice, tab, bob


def test_reading_in_another_tab_clears_the_line(new_user: NewUser) -> None:
    alice, tab, bob = two_hidden_tabs(new_user)
    send_message(bob, "one")
    for page in (alice, tab):
        expect(line_before(page, "one")).to_be_visible()
    expect(alice).to_have_title(re.compile(r"^\(1\) "))
    hide(tab, False)
    expect(alice.locator(LINE)).to_have_count(0)
    expect(alice).to_have_title(re.compile(r"^[^(]"))
    expect(line_before(tab, "one")).to_be_visible()


def test_an_own_message_of_another_tab_is_not_below_the_line(new_user: NewUser) -> None:
    alice, tab, bob = two_hidden_tabs(new_user)
    send_message(tab, "mine")
    expect_messages(alice, "read", "mine")
    expect(alice.locator(LINE)).to_have_count(0)
    send_message(bob, "one")
    for page in (alice, tab):
        expect_messages(page, "read", "mine", "one")
        expect(line_before(page, "one")).to_be_visible()


def test_marks_are_sent_once_in_two_seconds(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    marked(alice)
    alice.reload()
    expect_connected(alice)
    for number in range(10):
        send_message(bob, f"number {number}")
        expect(messages(alice)).to_have_count(number + 1)
    alice.wait_for_function("() => marks.length >= 2")
    [first, second, *_] = alice.evaluate("() => marks")
    assert second - first >= 1900


def test_what_is_read_without_a_connection_is_marked_over_the_next_one(
    new_user: NewUser, server: Server, page_errors: PageErrors
) -> None:
    page_errors.allow(LOST_CONNECTION)
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob")
        marked(alice)
        alice.reload()
        expect_connected(alice)
        hide(alice)
        send_message(bob, "one")
        expect_messages(alice, "one")
        relay.cut()
        expect_waiting(alice)
        hide(alice, False)
        assert alice.evaluate("() => marks") == []
        relay.restore()
        expect_connected(alice)
        alice.wait_for_function("() => marks.length > 0")


def test_the_rooms_of_the_service_are_listed(
    new_user: NewUser, new_window: NewWindow, add_session: SignIn, room: str
) -> None:
    new_user("Bob", f"{room}-b")
    alice = new_user("Alice")
    link = room_link(alice, f"{room}-b")
    expect(link).to_be_visible()
    expect(link).to_have_accessible_name(f"{room}-b 1 here")
    link.focus()
    new_user("Carol", f"{room}-c")
    hide(alice)
    hide(alice, False)  # The list is loaded at once.
    expect(room_link(alice, f"{room}-c")).to_be_visible()
    expect(link).to_be_focused()
    link.press("Enter")
    expect(alice.locator("#room-title")).to_have_text(f"{room}-b")
    expect_connected(alice)
    expect(link).to_have_accessible_name(f"{room}-b")


def test_a_room_of_others_that_is_private_is_not_listed(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    open_room(bob, f"private-{room}")
    expect(bob.locator("#connection")).to_have_attribute("data-state", "closed")
    hide(alice)
    hide(alice, False)
    enter(alice, room)
    expect(room_link(alice, room)).to_be_visible()
    expect(room_link(alice, f"private-{room}")).to_have_count(0)
