"""Users sign in and exchange messages, each in a separate window."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Browser, WebSocket, WebSocketRoute, expect
from websockets.sync.client import ClientConnection, connect

from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from .pages import (
    WAIT_SECONDS,
    composer,
    expect_connected,
    expect_messages,
    messages,
    notes,
    open_room,
    own_messages,
    people,
    second_tab,
    send_message,
    sign_in,
    stop_clock,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Server
    from .conftest import NewUser, NewWindow, PageErrors

# `EXPIRY_MS` in `chat/typing.js`.
TYPING_EXPIRY_SECONDS = 6


def connected(server: Server, room: str, name: str) -> ClientConnection:
    """Connect a user who signs in by name, without a browser."""
    with httpx.Client(trust_env=False, timeout=WAIT_SECONDS) as http:
        token = http.post(f"{server.url}/session", json={"name": name}).json()["token"]
    return connect(
        f"{server.ws_url}/{room}",
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
        open_timeout=WAIT_SECONDS,
    )


# --- sign-in


def test_a_new_user_signs_in_and_enters_the_room(new_window: NewWindow, room: str) -> None:
    page = new_window().new_page()
    open_room(page, room)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator("#sign-in-hint")).to_contain_text(room)
    expect(page.locator("#chat")).to_be_hidden()
    name = page.get_by_role("textbox", name="Your name")
    expect(name).to_be_focused()
    sign_in(page, "  Alice ")
    expect(page.get_by_role("heading", name=room)).to_be_visible()
    expect(page.locator("#own-name")).to_have_text("Alice")
    expect(page.locator("#connection-text")).to_have_text("Connected")
    expect(notes(page)).to_have_text([f"Welcome Alice to room '{room}'!"])
    expect(composer(page)).to_be_focused()
    page.reload()
    expect_connected(page)
    expect(page.locator("#own-name")).to_have_text("Alice")


@pytest.mark.parametrize("cookie", [None, "no.longer.valid"], ids=["new", "stale"])
def test_a_first_visit_leaves_the_console_empty(
    new_window: NewWindow, server: Server, page_errors: PageErrors, room: str, cookie: str | None
) -> None:
    window = new_window()
    if cookie:
        window.add_cookies([{"name": SESSION_COOKIE, "value": cookie, "url": server.url}])
    page = window.new_page()
    open_room(page, room)
    sign_in(page, "Alice")
    page.get_by_role("link", name="API documentation").click()
    expect(page.get_by_role("heading", name="clientSendMessage")).to_be_visible()
    assert page_errors.recorded == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("   ", "Enter a name."),
        ("x" * 41, "The name has 41 characters: it takes 1 to 40."),
        ("Al\u200bice", "The name has the invisible character U+200B."),
    ],
    ids=["blank", "long", "invisible"],
)
def test_an_invalid_name_is_reported_at_its_field(
    new_window: NewWindow, room: str, page_errors: PageErrors, name: str, sentence: str
) -> None:
    if name.strip():
        page_errors.allow(r"status of 422 \(Unprocessable Entity\) at \S+/session$")
    page = new_window().new_page()
    open_room(page, room)
    field = page.get_by_role("textbox", name="Your name")
    field.fill(name)
    field.press("Enter")
    expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile(re.escape(sentence)))
    expect(page.locator("#chat")).to_be_hidden()
    field.fill("Alice")
    expect(page.locator("#name-error")).to_be_empty()
    expect(field).not_to_have_attribute("aria-invalid", "true")
    field.press("Enter")
    expect_connected(page)


def test_after_a_sign_out_another_user_can_sign_in(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "between us")
    expect_messages(bob, "between us")
    bob.get_by_role("button", name="Sign out", exact=True).click()
    expect(bob.get_by_role("textbox", name="Your name")).to_be_focused()
    expect(notes(alice).last).to_have_text("Bob left")
    sign_in(bob, "Carol")
    expect(notes(alice).last).to_have_text("Carol joined, Bob left")
    expect_messages(bob, "between us")
    expect(own_messages(bob)).to_have_count(0)


# --- messages


def test_two_users_exchange_messages(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(alice, "Hello Bob!")
    expect_messages(bob, "Hello Bob!")
    composer(bob).fill("Hello Alice!\nHow are you?")
    bob.get_by_role("button", name="Send").click()
    send_message(bob, "I am fine.")
    for page in (alice, bob):
        expect_messages(page, "Hello Bob!", "Hello Alice!\nHow are you?", "I am fine.")
        expect(page.locator("#pending")).to_be_hidden()
    expect(composer(alice)).to_have_value("")

    expect(own_messages(alice).locator(".text")).to_have_text(["Hello Bob!"])
    expect(messages(bob).locator(".author")).to_have_text(["Alice", "You", "You"])
    own, other = (messages(alice).nth(number).locator(".bubble") for number in (0, 1))
    own_box, other_box = own.bounding_box(), other.bounding_box()
    assert own_box
    assert other_box
    assert own_box["x"] > other_box["x"] + 100, "own messages are on the right"
    colour = "element => getComputedStyle(element).backgroundColor"
    assert own.evaluate(colour) != other.evaluate(colour)

    for page in (alice, bob):
        for written in page.get_by_role("log").locator(".message time").all():
            expect(written).to_have_text(re.compile(r"^\d\d:\d\d$"))
            stamp = written.get_attribute("datetime")
            assert stamp
            age = datetime.now().astimezone() - datetime.fromisoformat(stamp)
            assert abs(age) < timedelta(seconds=3 * WAIT_SECONDS)


def test_a_message_that_the_service_refuses_is_marked(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    # A lone surrogate is not valid text; the page does not check for it.
    composer(alice).evaluate(r"field => { field.value = 'half \ud83d an emoji'; }")
    composer(alice).press("Enter")
    error = alice.locator("#composer-error")
    expect(error).not_to_be_empty()
    expect(error).to_have_role("alert")
    expect(composer(alice)).to_have_accessible_description(re.compile(r"\w"))
    refused = alice.get_by_role("list", name="Your unconfirmed messages").get_by_role("listitem")
    expect(refused).to_contain_text("Not sent")
    refused.get_by_role("button", name="Discard").click()
    expect(refused).to_have_count(0)
    send_message(alice, "a whole one 😀")
    expect(error).to_be_empty()
    for page in (alice, bob):
        expect_messages(page, "a whole one 😀")


def test_a_message_that_is_too_long_stays_in_the_composer(new_user: NewUser) -> None:
    alice = new_user("Alice")
    composer(alice).fill("x" * 2001)
    expect(alice.locator("#counter")).to_have_text("2,001 of 2,000")
    composer(alice).press("Enter")
    expect(alice.locator("#composer-error")).to_have_text(
        "This message is too long by 1 characters."
    )
    composer(alice).press("Backspace")
    expect(alice.locator("#composer-error")).to_be_empty()
    composer(alice).press("Enter")
    expect_messages(alice, "x" * 2000)


def test_new_messages_are_counted_while_older_ones_are_read(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    for number in range(3):
        send_message(bob, f"{number}" + "\n." * 20)
        expect(messages(alice)).to_have_count(number + 1)
    newer = alice.get_by_role("button", name=re.compile("new message"))
    first, last = messages(alice).first, messages(alice).last
    expect(last).to_be_in_viewport()
    expect(newer).to_have_count(0)

    alice.get_by_role("region", name="Conversation").press("Home")
    expect(first).to_be_in_viewport()
    send_message(bob, "one more")
    expect(newer).to_have_accessible_name("1 new message")
    send_message(bob, "and another one")
    expect(newer).to_have_accessible_name("2 new messages")
    expect(first).to_be_in_viewport()
    newer.press("Enter")
    expect(last).to_be_in_viewport()
    expect(newer).to_have_count(0)
    expect(composer(alice)).to_be_focused()

    alice.get_by_role("region", name="Conversation").press("Home")
    expect(first).to_be_in_viewport()
    send_message(bob, "the last one")
    expect(newer).to_have_accessible_name("1 new message")
    alice.get_by_role("region", name="Conversation").press("End")
    expect(newer).to_have_count(0)

    conversation = alice.get_by_role("region", name="Conversation")
    conversation.press("Home")
    expect(first).to_be_in_viewport()
    send_message(bob, "after the last one")
    newer.focus()
    conversation.evaluate("(frame) => frame.scrollTo(0, frame.scrollHeight)")
    expect(newer).to_have_count(0)
    expect(conversation).to_be_focused()


# --- an empty room


def test_an_empty_room_offers_its_link(new_user: NewUser, room: str) -> None:
    alice = new_user("Alice", permissions=["clipboard-read", "clipboard-write"])
    hint = alice.locator("#invite")
    expect(hint).to_contain_text("Nobody else is here yet.")
    alice.get_by_role("button", name="Copy the link").click()
    expect(alice.get_by_role("status").filter(has_text="Copied.")).to_be_visible()
    link = alice.evaluate("() => navigator.clipboard.readText()")
    assert link == alice.url
    assert link.endswith(f"#{room}")

    bob = alice.context.new_page()
    bob.goto(link)
    sign_in(bob, "Bob")
    for page in (alice, bob):
        expect(page.locator("#invite")).to_be_hidden()
    expect(alice.get_by_role("region", name="Conversation")).to_be_focused()
    bob.close()
    expect(hint).to_be_visible()
    expect(hint.get_by_role("status")).to_be_empty()
    send_message(alice, "a note to myself")
    expect(hint).to_be_hidden()
    open_room(alice, f"{room}-2")
    expect(hint).to_be_visible()


def test_a_link_that_cannot_be_copied_is_in_the_address_bar(new_user: NewUser) -> None:
    alice = new_user("Alice")
    alice.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    alice.get_by_role("button", name="Copy the link").click()
    expect(alice.locator("#invite").get_by_role("status")).to_have_text(
        "The browser does not allow it: copy the address of this page."
    )


# --- typing


def test_typing_ends_when_the_text_is_cleared_sent_or_left(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    stop_clock(alice)
    typing = alice.locator("#typing")
    expect(typing).to_be_empty()

    composer(bob).press_sequentially("Well")
    expect(typing).to_have_text("Bob is typing…")
    composer(bob).fill("")
    expect(typing).to_be_empty()

    composer(bob).press_sequentially("Well, ")
    expect(typing).to_have_text("Bob is typing…")
    composer(bob).press("Enter")
    expect_messages(alice, "Well, ".strip())
    expect(typing).to_be_empty()

    composer(bob).press_sequentially("I")
    expect(typing).to_have_text("Bob is typing…")
    composer(bob).blur()
    expect(typing).to_be_empty()
    expect(bob.locator("#typing")).to_be_empty()


def test_typing_ends_after_idle_time(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    stop_clock(alice)
    bob.clock.install()
    composer(bob).press_sequentially("Well")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    bob.clock.fast_forward(5_000)
    expect(alice.locator("#typing")).to_be_empty()
    expect(composer(bob)).to_have_value("Well")


def test_several_typing_users_are_named(new_user: NewUser) -> None:
    alice, bob, carol = (new_user(name) for name in ("Alice", "Bob", "Carol"))
    stop_clock(alice)
    composer(bob).press_sequentially("I")
    composer(carol).press_sequentially("I")
    expect(alice.locator("#typing")).to_have_text(
        re.compile(r"^(Bob and Carol|Carol and Bob) are typing…$")
    )
    composer(bob).fill("")
    expect(alice.locator("#typing")).to_have_text("Carol is typing…")


def test_typing_ends_when_the_browser_is_killed(new_user: NewUser, second_browser: Browser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob", of=second_browser)
    stop_clock(alice)
    composer(bob).press_sequentially("Well")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    processes = second_browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    [number] = [each["id"] for each in processes["processInfo"] if each["type"] == "browser"]
    os.kill(number, signal.SIGKILL)
    expect(alice.locator("#typing")).to_be_empty()
    expect(notes(alice).last).to_have_text("Bob joined and left")


def test_typing_expires_when_a_client_sends_nothing_more(
    new_user: NewUser, server: Server, room: str
) -> None:
    alice = new_user("Alice")
    stop_clock(alice)
    with connected(server, room, "Bob") as bob:
        bob.send(json.dumps({"type": "clientStartTyping", "payload": {}}))
        typing = alice.locator("#typing")
        expect(typing).to_have_text("Bob is typing…")
        alice.clock.run_for((TYPING_EXPIRY_SECONDS - 1) * 1000)
        assert typing.inner_text() == "Bob is typing…"
        alice.clock.run_for(1000)
        expect(typing).to_be_empty()
        expect(people(alice)).to_have_count(2)


# --- presence


def test_a_user_with_two_tabs_joins_once_and_leaves_once(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    expect(notes(alice).last).to_have_text("Bob joined")
    sockets: list[WebSocket] = []
    tab = second_tab(bob)
    tab.on("websocket", lambda socket: sockets.append(socket))
    tab.reload()
    expect_connected(tab)
    for page in (alice, bob, tab):
        expect(people(page).locator("bdi")).to_have_text(["Alice", "Bob"])
        expect(page.locator("#people-count")).to_have_text("2")
    send_message(tab, "from my second tab")
    for page in (alice, bob, tab):
        expect_messages(page, "from my second tab")
    expect(own_messages(bob)).to_have_count(1)

    with sockets[0].expect_event("close"):
        open_room(tab, f"{room}-2")
    send_message(bob, "my second tab is elsewhere")
    expect_messages(alice, "from my second tab", "my second tab is elsewhere")
    expect(people(alice)).to_have_count(2)

    bob.close()
    expect(notes(alice).last).to_have_text("Bob left")
    expect(people(alice).locator("bdi")).to_have_text(["Alice"])
    expect(alice.locator("#people-count")).to_have_text("1")
    expect(alice.get_by_role("log").locator("li .text")).to_have_text(
        [
            f"Welcome Alice to room '{room}'!",
            "Bob joined",
            "from my second tab",
            "my second tab is elsewhere",
            "Bob left",
        ]
    )


def test_joins_and_leaves_between_messages_are_one_note(
    new_user: NewUser, server: Server, room: str
) -> None:
    alice = new_user("Alice")
    log = alice.get_by_role("log").locator("li")
    note = notes(alice).last
    with ExitStack() as others:
        with connected(server, room, "Zoe"):
            expect(note).to_have_text("Zoe joined")
            entry = log.last
            expect(entry).not_to_have_attribute("aria-live", "off")
        expect(note).to_have_text("Zoe joined and left")
        expect(entry).to_have_attribute("aria-live", "off")
        for name, text in (
            ("Ada", "Ada joined, Zoe joined and left"),
            ("Bob", "Ada and Bob joined, Zoe joined and left"),
            ("Carol", "Ada and 2 others joined, Zoe joined and left"),
        ):
            others.enter_context(connected(server, room, name))
            expect(note).to_have_text(text)
        expect(log).to_have_count(2)
        send_message(alice, "Hello all!")
        expect_messages(alice, "Hello all!")
    expect(note).to_have_text(re.compile(r"^\w+ and 2 others left$"))
    expect(log).to_have_count(4)


def test_rooms_are_switched_by_form_link_and_history(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    other = f"{room}-Küche"
    field = alice.get_by_role("textbox", name="Name of a room")
    field.fill(other)
    field.press("Enter")
    expect(alice.locator("#room-title")).to_have_text(other)
    expect_connected(alice)
    expect(composer(alice)).to_be_focused()
    expect(alice).to_have_title(re.compile(f"^{re.escape(other)} · "))
    expect(notes(bob).last).to_have_text("Alice left")
    expect(people(alice)).to_have_count(1)

    send_message(bob, "for the first room only")
    expect_messages(bob, "for the first room only")
    send_message(alice, "for the other room only")
    expect_messages(alice, "for the other room only")

    rooms = alice.get_by_role("list", name="Rooms", exact=True)
    links = rooms.get_by_role("link").filter(has_text=room).locator("bdi")
    expect(links).to_have_text(sorted([room, other]))
    expect(rooms.locator("[aria-current=page]")).to_have_text(other)
    links.get_by_text(room, exact=True).click()
    expect(alice.locator("#room-title")).to_have_text(room)
    expect_connected(alice)
    expect_messages(alice, "for the first room only")
    expect(notes(bob).last).to_have_text("Alice joined")
    expect(people(alice)).to_have_count(2)

    alice.go_back()
    expect(alice.locator("#room-title")).to_have_text(other)
    expect_connected(alice)
    expect_messages(bob, "for the first room only")


@pytest.mark.parametrize("name", ["a/b", "..", "é" * 101], ids=["slash", "dots", "long"])
def test_an_invalid_room_name_is_reported_at_its_field(new_user: NewUser, name: str) -> None:
    alice = new_user("Alice")
    field = alice.get_by_role("textbox", name="Name of a room")
    field.fill(name)
    field.press("Enter")
    error = alice.locator("#room-error")
    expect(error).not_to_be_empty()
    expect(error).to_have_role("alert")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(error.inner_text())
    field.fill("fine")
    expect(error).to_be_empty()
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect_connected(alice)


# --- announcements


def test_an_announcement_is_highlighted_and_reaches_every_room(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    server = serve(
        APP_ANNOUNCEMENT_INTERVAL_SECONDS="1", APP_ANNOUNCEMENT_TEXT="Tea <b>is</b> ready & hot."
    )
    alice = new_user("Alice", at=server)
    bob = new_user("Bob", f"{room}-2", at=server)
    for page in (alice, bob):
        announcement = page.get_by_role("log").locator(".announcement").first
        expect(announcement).to_contain_text("Announcement Tea <b>is</b> ready & hot.")
        expect(announcement.locator("b")).to_have_count(0)
        expect(texts(page)).to_have_count(0)
        background = "element => getComputedStyle(element).backgroundColor"
        plain = page.get_by_role("log").locator(".system").first
        assert announcement.evaluate(background) != plain.evaluate(background)


# --- large rooms


def test_a_large_room_has_a_number_and_one_line_for_all_changes(
    new_window: NewWindow, room: str
) -> None:
    page = new_window().new_page()
    sockets: list[WebSocketRoute] = []
    states: list[dict[str, Any]] = []

    def pass_on(ws: WebSocketRoute) -> None:
        def receive(text: str | bytes) -> None:
            message = json.loads(text)
            if message["type"] == "serverRoomState":
                states.append(message)
            ws.send(text)

        ws.connect_to_server().on_message(receive)
        sockets.append(ws)

    def announce(**payload: object) -> None:
        sockets[-1].send(json.dumps({"type": "serverPresenceChanged", "payload": payload}))

    page.route_web_socket(re.compile(r"^ws"), pass_on)
    open_room(page, room)
    sign_in(page, "Alice")
    expect(page.locator("#people-count")).to_have_text("1")

    def person(name: str) -> dict[str, str]:
        return {"user": name, "userId": f"id of {name}"}

    alice = person("Alice") | {"userId": states[-1]["payload"]["you"]["userId"]}
    users = [person(f"user {number}") for number in range(1, 251)]
    announce(joined=[alice, *users[:199]], left=[], moreJoined=51, count=251)
    expect(page.locator("#people-count")).to_have_text("251")
    expect(people(page)).to_have_count(201)
    expect(people(page).last).to_have_text("and 51 more")
    expect(people(page).filter(has_text="(you)")).to_have_count(1)
    expect(notes(page).last).to_have_text("user 1 and 249 others joined")
    announce(joined=[person("Bob")], left=users[:2], count=250)
    expect(notes(page).last).to_have_text(
        "user 3 and 248 others joined, user 1 and user 2 joined and left"
    )
    expect(people(page).last).to_have_text("and 51 more")
    send_message(page, "Hello all!")
    expect_messages(page, "Hello all!")

    remaining = [alice, person("Bob"), person("Carol")]
    announce(joined=[], left=users[2:202], moreLeft=47, count=3, users=remaining)
    expect(people(page)).to_have_text([re.compile("Alice"), re.compile("Bob"), re.compile("Carol")])
    expect(page.locator("#people-count")).to_have_text("3")
    expect(notes(page).last).to_have_text("user 3 and 246 others left")


def test_a_line_separates_messages_of_different_days(new_window: NewWindow, room: str) -> None:
    page = new_window().new_page()
    page.clock.set_fixed_time(datetime.now() + timedelta(days=2))
    open_room(page, room)
    sign_in(page, "Alice")
    days = page.get_by_role("log").locator(".day")
    expect(days).to_have_count(0)
    today = datetime.now().date()
    send_message(page, "from the server's today")
    expect_messages(page, "from the server's today")
    expect(days).to_have_count(1)
    expect(days).to_have_attribute("aria-live", "off")
    send_message(page, "of the same day")
    expect_messages(page, "from the server's today", "of the same day")
    expect(days).to_have_count(1)
    shown = days.locator("time").get_attribute("datetime")
    assert shown in {today.isoformat(), datetime.now().date().isoformat()}
    expect(page.get_by_role("log").locator("li").nth(1)).to_have_class("day")
