"""Editing and deleting one's own messages, with the mouse, the keyboard and a screen reader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import WebSocketRoute, expect

from .pages import (
    LOOKS,
    LOST_CONNECTION,
    NARROW,
    act,
    composer,
    enter,
    expect_connected,
    expect_messages,
    message,
    messages,
    open_room,
    send_message,
    sign_in,
)
from .relay import relay_to
from .test_restart import expect_waiting

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import AxeViolations, NewUser, NewWindow, PageErrors


def test_an_edited_message_changes_for_all(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "Helo <b>")
    send_message(alice, "next")
    expect_messages(bob, "Helo <b>", "next")
    composer(alice).fill("my draft")
    act(alice, "Helo <b>", "Edit")
    expect(composer(alice)).to_be_focused()
    expect(composer(alice)).to_have_value("Helo <b>")
    expect(alice.locator("#context")).to_contain_text("Editing your message")
    send_message(alice, "Hello <b>")
    for page in (alice, bob):
        expect_messages(page, "Hello <b>", "next")
        expect(message(page, "Hello <b>").locator(".edited")).to_have_text("edited")
        expect(message(page, "next").locator(".edited")).to_have_count(0)
    expect(alice.locator("#context")).to_be_hidden()
    expect(composer(alice)).to_have_value("my draft")
    bob.reload()
    expect_connected(bob)
    expect_messages(bob, "Hello <b>", "next")
    expect(message(bob, "Hello <b>").locator(".edited")).to_have_text("edited")


def test_arrow_up_edits_the_last_own_message_and_escape_cancels(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "first")
    send_message(alice, "second")
    expect_messages(bob, "first", "second")
    send_message(bob, "third")
    expect_messages(alice, "first", "second", "third")
    composer(alice).press("ArrowUp")
    expect(composer(alice)).to_have_value("second")
    composer(alice).press("Escape")
    expect(composer(alice)).to_have_value("")
    expect(composer(alice)).to_be_focused()
    expect(alice.locator("#context")).to_be_hidden()
    composer(alice).press("ArrowUp")
    composer(alice).press_sequentially(" one")
    composer(alice).press("Enter")
    expect_messages(bob, "first", "second one", "third")
    expect_messages(alice, "first", "second one", "third")
    composer(alice).fill("text")
    composer(alice).press("ArrowUp")
    expect(alice.locator("#context")).to_be_hidden()


def test_a_deleted_message_disappears_for_all(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for text in ("one", "two", "three"):
        send_message(alice, text)
    expect_messages(bob, "one", "two", "three")
    act(alice, "two", "Delete")
    choice = alice.get_by_role("group", name="Delete this message?")
    expect(choice.get_by_role("button", name="No")).to_be_focused()
    choice.get_by_role("button", name="No").click()
    expect_messages(alice, "one", "two", "three")
    act(alice, "two", "Delete")
    choice.get_by_role("button", name="Yes").click()
    for page in (alice, bob):
        expect_messages(page, "one", "three")
        page.reload()
        expect_connected(page)
        expect_messages(page, "one", "three")


def test_messages_of_others_cannot_be_edited_or_deleted(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "mine")
    expect_messages(bob, "mine")
    message(bob, "mine").locator(".bubble").hover()
    actions = bob.get_by_role("group", name="Actions for this message")
    expect(actions.get_by_role("button", name="Reply")).to_be_visible()
    expect(actions.get_by_role("button", name="Edit")).to_be_hidden()
    expect(actions.get_by_role("button", name="Delete")).to_be_hidden()


def test_actions_are_reached_by_keyboard(new_user: NewUser) -> None:
    alice = new_user("Alice")
    for text in ("one", "two", "three"):
        send_message(alice, text)
    expect_messages(alice, "one", "two", "three")
    press = alice.keyboard.press
    alice.get_by_role("region", name="Conversation").focus()
    press("Tab")
    expect(message(alice, "three")).to_be_focused()
    outline = message(alice, "three").evaluate("(entry) => getComputedStyle(entry).outlineStyle")
    assert outline == "solid"
    press("ArrowUp")
    expect(message(alice, "two")).to_be_focused()
    press("Home")
    expect(message(alice, "one")).to_be_focused()
    press("ArrowDown")
    expect(message(alice, "two")).to_be_focused()
    while not alice.evaluate("() => document.activeElement.textContent === 'Delete'"):
        press("Tab")
    press("Enter")
    press("Escape")
    expect(message(alice, "two")).to_be_focused()
    expect_messages(alice, "one", "two", "three")
    while not alice.evaluate("() => document.activeElement.textContent === 'Delete'"):
        press("Tab")
    press("Enter")
    press("Shift+Tab")
    press("Enter")
    expect_messages(alice, "one", "three")
    expect(message(alice, "three")).to_be_focused()
    press("End")
    press("Tab")
    press("Escape")
    expect(message(alice, "three")).to_be_focused()


def test_tab_reaches_a_message_after_the_last_one_is_deleted(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for text in ("one", "two"):
        send_message(bob, text)
    expect_messages(alice, "one", "two")
    act(bob, "two", "Delete")
    bob.get_by_role("button", name="Yes").click()
    expect_messages(alice, "one")
    alice.get_by_role("region", name="Conversation").press("Tab")
    expect(message(alice, "one")).to_be_focused()


def test_a_deletion_does_not_move_what_is_read(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for number in range(50):
        send_message(bob, f"number {number}")
    expect(messages(alice)).to_have_count(50)
    read = message(alice, "number 25")
    read.evaluate("(entry) => entry.scrollIntoView({ block: 'start' })")
    expect(messages(alice).last).not_to_be_in_viewport()
    expect(alice.locator("#newer")).to_be_hidden()
    before = read.bounding_box()
    act(bob, "number 2", "Delete")
    bob.get_by_role("button", name="Yes").click()
    expect(messages(alice)).to_have_count(49)
    after = read.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) <= 1


def test_an_edit_is_cancelled_by_a_deletion_and_by_another_room(
    new_user: NewUser, room: str
) -> None:
    alice = new_user("Alice")
    send_message(alice, "one")
    expect_messages(alice, "one")
    with alice.expect_popup() as opened:
        alice.evaluate("() => void open(location.href)")
    tab = opened.value
    expect_connected(tab)
    expect_messages(tab, "one")
    act(alice, "one", "Edit")
    open_room(alice, f"{room}-2")
    expect(alice.locator("#context")).to_be_hidden()
    expect(composer(alice)).to_have_value("")
    expect_connected(alice)
    enter(alice, room)
    act(alice, "one", "Edit")
    act(tab, "one", "Delete")
    tab.get_by_role("button", name="Yes").click()
    expect_messages(tab)
    expect_messages(alice)
    expect(alice.locator("#composer-error")).to_contain_text("has been deleted")
    expect(composer(alice)).to_have_value("")


def test_a_text_that_could_not_be_saved_stays_in_the_composer(
    new_user: NewUser, server: Server, page_errors: PageErrors
) -> None:
    page_errors.allow(LOST_CONNECTION)
    with relay_to(server.url) as relay:
        alice = new_user("Alice", at=relay)
        send_message(alice, "one")
        expect_messages(alice, "one")
        act(alice, "one", "Edit")
        relay.mute()
        send_message(alice, "two")
        relay.cut()
        expect(alice.locator("#composer-error")).to_contain_text("not confirmed")
        expect(composer(alice)).to_have_value("two")
        expect_waiting(alice)
        relay.restore()
        expect_connected(alice)
        composer(alice).press("Enter")
        expect_messages(alice, "two")
        expect(alice.locator("#context")).to_be_hidden()


def test_changes_during_an_outage_are_loaded(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_HISTORY_MESSAGES="1")
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        for text in ("one", "two", "three"):
            send_message(bob, text)
        expect_messages(alice, "one", "two", "three")
        relay.cut()
        expect_waiting(alice)
        act(bob, "one", "Edit")
        send_message(bob, "ONE")
        act(bob, "two", "Delete")
        bob.get_by_role("button", name="Yes").click()
        expect_messages(bob, "ONE", "three")
        send_message(bob, "four")
        expect_messages(bob, "ONE", "three", "four")
        relay.restore()
        expect_connected(alice)
        expect_messages(alice, "ONE", "three", "four")


def test_without_a_store_there_are_no_actions(
    new_user: NewUser, serve: Callable[..., Server]
) -> None:
    alice = new_user("Alice", at=serve(APP_DATABASE_URL="none"))
    send_message(alice, "one")
    expect_messages(alice, "one")
    messages(alice).locator(".bubble").hover()
    expect(alice.get_by_role("group", name="Actions for this message")).to_have_count(0)
    composer(alice).press("ArrowUp")
    expect(alice.locator("#context")).to_be_hidden()


@pytest.mark.parametrize("look", LOOKS)
def test_actions_have_no_axe_violations(
    new_user: NewUser, axe_violations: AxeViolations, look: str
) -> None:
    alice, bob = new_user("Alice", **LOOKS[look]), new_user("Bob")
    send_message(bob, "from Bob")
    expect_messages(alice, "from Bob")
    send_message(alice, "mine")
    expect_messages(alice, "from Bob", "mine")
    send_message(bob, "a reply")
    act(alice, "mine", "React")
    emoji = alice.get_by_role("button", name="Thumbs up")
    expect(emoji).to_be_focused()
    assert axe_violations(alice) == []
    emoji.press("Enter")
    expect(alice.get_by_role("list", name="Reactions")).to_be_visible()
    act(alice, "from Bob", "Reply")
    assert axe_violations(alice) == []
    send_message(alice, "answer")
    expect(message(alice, "answer").locator(".quote")).to_be_visible()
    act(alice, "mine", "Edit")
    assert axe_violations(alice) == []
    send_message(alice, "mine, edited")
    expect(message(alice, "mine, edited").locator(".edited")).to_be_visible()
    act(alice, "mine, edited", "Delete")
    assert axe_violations(alice) == []
    for button in alice.locator(".actions button:visible").all():
        box = button.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24
        assert box["x"] >= 0


def test_changes_in_another_order_or_twice_do_no_harm(
    new_window: NewWindow, new_user: NewUser, room: str
) -> None:
    held: list[tuple[WebSocketRoute, str | bytes]] = []

    def hold_changes(browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()

        def receive(message: str | bytes) -> None:
            if re.search('"server(MessageEdited|MessageDeleted|Reaction)"', str(message)):
                held.append((browser, message))
            else:
                browser.send(message)

        server.on_message(receive)

    alice = new_window().new_page()
    alice.route_web_socket(re.compile("^ws"), hold_changes)
    open_room(alice, room)
    sign_in(alice, "Alice")
    bob = new_user("Bob")
    for text in ("one", "two"):
        send_message(bob, text)
    expect_messages(alice, "one", "two")
    for before, after in (("one", "ONE"), ("ONE", "1")):
        act(bob, before, "Edit")
        send_message(bob, after)
        expect_messages(bob, after, "two")
    act(bob, "1", "React")
    bob.get_by_role("button", name="Heart").click()
    chip = bob.get_by_role("list", name="Reactions").get_by_role("button")
    expect(chip).to_be_visible()
    chip.click()
    expect(chip).to_have_count(0)
    act(bob, "two", "Delete")
    bob.get_by_role("button", name="Yes").click()
    expect_messages(bob, "1")
    send_message(bob, "three")  # After all changes.
    expect_messages(alice, "one", "two", "three")
    assert len(held) == 5
    for browser, change in (*reversed(held), *held):
        # Without its position in the room, by which the client drops a message that it knows.
        changed = json.loads(change)
        del changed["id"]
        browser.send(json.dumps(changed))
    send_message(bob, "four")
    expect_messages(alice, "1", "three", "four")
    expect(alice.get_by_role("list", name="Reactions")).to_have_count(0)


def test_a_touch_shows_the_actions(new_user: NewUser) -> None:
    alice = new_user("Alice", has_touch=True, is_mobile=True, viewport=NARROW)
    send_message(alice, "one")
    send_message(alice, "two")
    expect_messages(alice, "one", "two")
    actions = alice.get_by_role("group", name="Actions for this message")
    expect(actions).to_have_count(0)
    message(alice, "two").locator(".text").tap()
    expect(message(alice, "two").locator(".actions")).to_be_in_viewport(ratio=1)
    for button in actions.get_by_role("button").all():
        box = button.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 36
    actions.get_by_role("button", name="Delete").tap()
    alice.get_by_role("button", name="Yes").tap()
    expect_messages(alice, "one")
