"""Reactions to messages, and a page without their module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import Locator, Page, expect

from .pages import (
    act,
    expect_connected,
    expect_messages,
    message,
    messages,
    open_room,
    open_without_module,
    send_message,
    sign_in,
)

if TYPE_CHECKING:
    from .conftest import NewUser, NewWindow


def chips(page: Page, text: str) -> Locator:
    """Return the reactions of the message with this text."""
    return message(page, text).get_by_role("list", name="Reactions").get_by_role("button")


def react(page: Page, text: str, name: str) -> None:
    """Choose a reaction to the message with this text."""
    act(page, text, "React")
    page.get_by_role("group", name="Choose a reaction").get_by_role("button", name=name).click()


def expect_chip(page: Page, text: str, name: str, *, mine: bool) -> None:
    """Expect one reaction with this accessible name."""
    chip = chips(page, text).and_(page.get_by_role("button", name=name, exact=True))
    expect(chip).to_have_attribute("aria-pressed", str(mine).lower())


def test_reactions_are_counted_for_all_and_kept(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "one")
    send_message(alice, "two")
    expect_messages(bob, "one", "two")
    react(bob, "one", "Thumbs up")
    expect_chip(bob, "one", "Thumbs up, 1", mine=True)
    expect_chip(alice, "one", "Thumbs up, 1", mine=False)
    chips(alice, "one").click()
    for page in (alice, bob):
        expect_chip(page, "one", "Thumbs up, 2", mine=True)
    react(alice, "one", "Party")
    expect_chip(bob, "one", "Party, 1", mine=False)
    for page in (alice, bob):
        page.reload()
        expect_connected(page)
        expect_chip(page, "one", "Thumbs up, 2", mine=True)
        expect_chip(page, "one", "Party, 1", mine=page is alice)
        expect(chips(page, "two")).to_have_count(0)
    react(alice, "one", "Thumbs up")  # The second time takes it back.
    for page in (alice, bob):
        expect_chip(page, "one", "Thumbs up, 1", mine=page is bob)
    chips(bob, "one").filter(has_text="👍").click()
    expect(chips(alice, "one")).to_have_count(1)
    expect(messages(alice)).to_have_count(2)


def test_reactions_work_by_keyboard(new_user: NewUser) -> None:
    alice = new_user("Alice")
    send_message(alice, "one")
    expect_messages(alice, "one")
    press = alice.keyboard.press
    message(alice, "one").focus()
    while not alice.evaluate("() => document.activeElement.textContent === 'React'"):
        press("Tab")
    press("Enter")
    expect(alice.get_by_role("button", name="Thumbs up")).to_be_focused()
    press("Escape")
    expect(message(alice, "one")).to_be_focused()
    while not alice.evaluate("() => document.activeElement.textContent === 'React'"):
        press("Tab")
    press("Enter")
    press("Tab")
    press("Enter")
    expect_chip(alice, "one", "Heart, 1", mine=True)
    expect(message(alice, "one")).to_be_focused()
    while not alice.evaluate("() => document.activeElement.matches('.reaction')"):
        press("Tab")
    press("Enter")
    expect(chips(alice, "one")).to_have_count(0)
    expect(message(alice, "one")).to_be_focused()


def test_a_reaction_keeps_the_newest_message_visible(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for number in range(20):
        send_message(alice, f"number {number}")
    expect(messages(bob)).to_have_count(20)
    react(bob, "number 19", "Sad")
    for page in (alice, bob):
        expect(chips(page, "number 19")).to_be_in_viewport(ratio=1)


def test_the_page_works_without_the_module(
    new_window: NewWindow, new_user: NewUser, room: str
) -> None:
    alice = open_without_module(new_window, "reactions", lines=3)
    open_room(alice, room)
    sign_in(alice, "Alice")
    bob = new_user("Bob")
    send_message(bob, "Hello")
    expect_messages(alice, "Hello")
    react(bob, "Hello", "Heart")
    expect_chip(bob, "Hello", "Heart, 1", mine=True)
    message(alice, "Hello").locator(".bubble").hover()
    expect(alice.get_by_role("button", name="Reply")).to_be_visible()
    expect(alice.get_by_role("button", name="React")).to_have_count(0)
    send_message(alice, "Hello Bob")
    expect_messages(bob, "Hello", "Hello Bob")
    expect(alice.get_by_role("list", name="Reactions")).to_have_count(0)
