"""Notifications of mentions, which need a click, and which can be deleted from the page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from .pages import (
    composer,
    expect_messages,
    open_room,
    open_without_module,
    send_message,
    sign_in,
)

if TYPE_CHECKING:
    from .conftest import NewUser, NewWindow

# Headless browsers show no notifications, and their pages are never hidden.
RECORD_NOTIFICATIONS = """
globalThis.requests = 0;
globalThis.shown = [];
globalThis.answer = "granted";
globalThis.Notification = class extends EventTarget {
  static permission = "default";
  static async requestPermission() {
    requests += 1;
    return (Notification.permission = answer);
  }
  constructor(title, { body }) {
    super();
    shown.push([title, body]);
  }
  close() {}
};
"""
HIDE = "() => Object.defineProperty(document, 'hidden', { configurable: true, value: true })"


@pytest.fixture
def alice(new_window: NewWindow, room: str) -> Page:
    """The page of a user whose notifications are recorded."""
    window = new_window()
    window.add_init_script(RECORD_NOTIFICATIONS)
    page = window.new_page()
    open_room(page, room)
    sign_in(page, "Alice B")
    return page


def expect_shown(page: Page, *expected: tuple[str, str]) -> None:
    """Expect exactly these notifications, each with its title and its text."""
    assert page.evaluate("() => shown") == [list(each) for each in expected]


def test_a_mention_is_notified_while_the_page_is_hidden(
    alice: Page, new_user: NewUser, room: str
) -> None:
    bob = new_user("Bob")
    toggle = alice.get_by_role("button", name="Notify me of mentions")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert alice.evaluate("() => requests") == 0
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")

    texts = [
        "@Alice B, not hidden",
        "@Alice Bo",
        "me@alice b",
        "Alice B",
        "@alice",
        "Hello @ALICE B!",
    ]
    send_message(bob, texts[0])
    expect_messages(alice, texts[0])
    alice.evaluate(HIDE)
    now = datetime.now()
    alice.clock.set_fixed_time(now)
    for text in texts[1:]:
        send_message(bob, text)
    expect_messages(alice, *texts)
    title = f"Bob in {room}"
    expect_shown(alice, (title, "Hello @ALICE B!"))

    # A flood is one notification.
    send_message(bob, "@Alice B again")
    expect_messages(alice, *texts, "@Alice B again")
    expect_shown(alice, (title, "Hello @ALICE B!"))
    alice.clock.set_fixed_time(now + timedelta(seconds=10))
    send_message(alice, "@Alice B myself")
    expect_messages(bob, *texts, "@Alice B again", "@Alice B myself")
    send_message(bob, "@Alice B, are you there?")
    expect_messages(alice, *texts, "@Alice B again", "@Alice B myself", "@Alice B, are you there?")
    expect_shown(alice, (title, "Hello @ALICE B!"), (title, "@Alice B, are you there?"))
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "false")
    assert alice.evaluate("() => requests") == 1


def test_nothing_is_notified_without_a_click(alice: Page, new_user: NewUser) -> None:
    bob = new_user("Bob")
    alice.evaluate("() => { Notification.permission = 'granted'; }")
    alice.evaluate(HIDE)
    send_message(bob, "Hello @Alice B")
    expect_messages(alice, "Hello @Alice B")
    expect_shown(alice)


def test_a_refused_permission_is_explained(alice: Page) -> None:
    alice.evaluate("() => { answer = 'denied'; }")
    toggle = alice.get_by_role("button", name="Notify me of mentions")
    toggle.click()
    expect(alice.get_by_role("status").filter(has_text="blocks notifications")).to_be_visible()
    expect(toggle).to_have_attribute("aria-pressed", "false")


def test_the_page_works_without_the_module(
    new_window: NewWindow, new_user: NewUser, room: str
) -> None:
    page = open_without_module(new_window, "notifications", lines=3)
    open_room(page, room)
    sign_in(page, "Alice")
    bob = new_user("Bob")
    send_message(bob, "Hello @Alice")
    expect_messages(page, "Hello @Alice")
    expect(page.get_by_role("button", name="Notify me of mentions")).to_have_count(0)
    send_message(page, "Hello Bob")
    expect_messages(bob, "Hello @Alice", "Hello Bob")
    expect(composer(page)).to_be_focused()
