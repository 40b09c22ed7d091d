"""Replies that quote another message, and a page without their module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import Locator, Page, expect

from .pages import (
    act,
    composer,
    expect_connected,
    expect_messages,
    message,
    messages,
    open_room,
    open_without_module,
    send_message,
    sign_in,
)
from .test_safety import MARKUP, expect_nothing_ran

if TYPE_CHECKING:
    from .conftest import NewUser, NewWindow


def quote(page: Page, text: str) -> Locator:
    """Return the quote in the message with this text."""
    return message(page, text).locator(".quote")


def test_a_reply_quotes_the_message_for_all(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, MARKUP)
    expect_messages(bob, MARKUP)
    act(bob, MARKUP, "Reply")
    expect(composer(bob)).to_be_focused()
    expect(bob.locator("#context")).to_have_text(
        f"Replying to Alice {MARKUP} Cancel", use_inner_text=True
    )
    send_message(bob, "That is markup")
    expect(bob.locator("#context")).to_be_hidden()
    send_message(bob, "and not a reply")
    for page, name in ((alice, "You"), (bob, "Alice")):
        expect_messages(page, MARKUP, "That is markup", "and not a reply")
        expect(quote(page, "That is markup")).to_have_text(f"In reply to {name} {MARKUP}")
        expect(quote(page, "and not a reply")).to_have_count(0)
        expect_nothing_ran(page)
        page.reload()
        expect_connected(page)
        expect(quote(page, "That is markup")).to_have_text(f"In reply to {name} {MARKUP}")
        expect_nothing_ran(page)


def test_a_reply_is_cancelled_and_keeps_the_text(new_user: NewUser) -> None:
    alice = new_user("Alice")
    send_message(alice, "one")
    expect_messages(alice, "one")
    composer(alice).fill("a draft")
    act(alice, "one", "Reply")
    expect(alice.locator("#context")).to_contain_text("Replying to yourself")
    alice.get_by_role("button", name="Cancel").click()
    expect(alice.locator("#context")).to_be_hidden()
    expect(composer(alice)).to_be_focused()
    act(alice, "one", "Reply")
    composer(alice).press("Escape")
    expect(alice.locator("#context")).to_be_hidden()
    composer(alice).press("Enter")
    expect_messages(alice, "one", "a draft")
    expect(quote(alice, "a draft")).to_have_count(0)


def test_a_quote_leads_to_its_message(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "the first one")
    for number in range(30):
        send_message(alice, f"number {number}")
    expect(messages(bob)).to_have_count(31)
    act(bob, "the first one", "Reply")
    send_message(bob, "an answer")
    expect(quote(alice, "an answer")).to_be_in_viewport()
    expect(message(alice, "the first one")).not_to_be_in_viewport()
    quote(alice, "an answer").click()
    expect(message(alice, "the first one")).to_be_in_viewport()
    expect(message(alice, "the first one")).to_be_focused()

    for number in range(60):
        send_message(alice, f"more {number}")
    expect(message(bob, "more 59")).to_be_visible()
    act(bob, "an answer", "Reply")
    send_message(bob, "another answer")
    expect(message(alice, "another answer")).to_be_visible()
    alice.reload()
    expect_connected(alice)
    expect(messages(alice)).to_have_count(50)
    quote(alice, "another answer").click()
    expect(alice.locator("#composer-error")).to_contain_text("not loaded")


def test_a_quote_follows_its_message(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "helo")
    expect_messages(bob, "helo")
    act(bob, "helo", "Reply")
    send_message(bob, "hi")
    expect(quote(alice, "hi")).to_contain_text("helo")
    act(alice, "helo", "Edit")
    send_message(alice, "hello")
    expect(quote(bob, "hi")).to_contain_text("hello")
    act(alice, "hello", "Delete")
    alice.get_by_role("button", name="Yes").click()
    for page in (alice, bob):
        expect_messages(page, "hi")
        expect(quote(page, "hi")).to_contain_text("This message was deleted.")


def test_the_page_works_without_the_module(
    new_window: NewWindow, new_user: NewUser, room: str
) -> None:
    alice = open_without_module(new_window, "replies", lines=2)
    open_room(alice, room)
    sign_in(alice, "Alice")
    bob = new_user("Bob")
    send_message(alice, "Hello")
    expect_messages(bob, "Hello")
    act(bob, "Hello", "Reply")
    send_message(bob, "Hello Alice")
    expect_messages(alice, "Hello", "Hello Alice")
    expect(quote(alice, "Hello Alice")).to_have_count(0)
    message(alice, "Hello").locator(".bubble").hover()
    expect(alice.get_by_role("button", name="React")).to_be_visible()
    expect(alice.get_by_role("button", name="Reply")).to_have_count(0)
    send_message(alice, "Hello Bob")
    expect_messages(bob, "Hello", "Hello Alice", "Hello Bob")
