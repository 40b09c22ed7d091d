"""Accessibility: axe-core, screen readers, keyboard, narrow screens, dark mode, layout stability."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from .pages import (
    LOOKS,
    LOST_CONNECTION,
    NARROW,
    composer,
    expect_connected,
    expect_messages,
    messages,
    notes,
    open_room,
    people,
    send_message,
    sign_in,
)
from .relay import relay_to

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import AxeViolations, NewUser, NewWindow, PageErrors

AVATAR_TONES = 12
# https://www.w3.org/TR/WCAG22/#contrast-minimum
MIN_CONTRAST = 4.5

MIN_MARGIN_PX = 12

MAX_LAYOUT_SHIFT = 0.02
# https://web.dev/articles/cls: shifts after user input do not count.
COUNT_LAYOUT_SHIFTS = """
globalThis.layoutShifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) layoutShifts.push([entry.value, ...entry.sources.map(({ node }) => node?.id)]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""


def fits(page: Page) -> bool:
    """Return whether the page is no wider than the screen."""
    fits: bool = page.evaluate(
        "() => document.scrollingElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return fits


def background(page: Page) -> tuple[int, ...]:
    """Return the page's background colour as red, green and blue."""
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return tuple(int(part) for part in re.findall(r"\d+", colour)[:3])


def luminance(colour: str) -> float:
    """Return the relative luminance of an `rgb()` colour, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    values = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    linear = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values
    )
    return sum(
        weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def layout_shifts(page: Page) -> list[tuple[float, str]]:
    """Return the layout shifts so far, with their elements."""
    # The shifts of the last change are reported after two frames.
    shifts: list[tuple[float, str]] = page.evaluate(
        """() => new Promise((done) => {
            requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)));
        }).then(() => layoutShifts)"""
    )
    return shifts


# --- axe


def test_axe_reports_a_violation(new_user: NewUser, axe_violations: AxeViolations) -> None:
    alice = new_user("Alice")
    alice.evaluate(
        "() => document.querySelector('#message').before(document.createElement('input'))"
    )
    [violation] = axe_violations(alice)
    assert violation.startswith("label: ")


@pytest.mark.parametrize("look", LOOKS)
def test_the_sign_in_form_has_no_axe_violations(
    new_window: NewWindow, axe_violations: AxeViolations, room: str, look: str
) -> None:
    page = new_window(**LOOKS[look]).new_page()
    open_room(page, room)
    expect(page.get_by_role("textbox", name="Your name")).to_be_focused()
    assert axe_violations(page) == []
    answer = {"user": None, "expiresAt": None, "signIn": "provider"}
    page.route("**/session", lambda route: route.fulfill(json=answer), times=1)
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    assert axe_violations(page) == []
    page.reload()
    page.get_by_role("textbox", name="Your name").press("Enter")
    expect(page.locator("#name-error")).not_to_be_empty()
    assert axe_violations(page) == []


@pytest.mark.parametrize("look", LOOKS)
def test_a_conversation_has_no_axe_violations(
    new_user: NewUser, axe_violations: AxeViolations, look: str
) -> None:
    alice = new_user("Alice", **LOOKS[look])
    expect(alice.get_by_role("button", name="Copy the link")).to_be_visible()
    assert axe_violations(alice) == []
    bob = new_user("Bob")
    send_message(bob, "Hello Alice!")
    send_message(bob, "How are you? See https://a.example and `code`.")
    send_message(alice, "Hello Bob! See https://b.example and ```more code```")
    composer(bob).press_sequentially("W")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    composer(alice).fill("x" * 2001)
    composer(alice).press("Enter")
    expect(alice.locator("#composer-error")).not_to_be_empty()
    expect(messages(alice)).to_have_count(3)
    expect(messages(alice).get_by_role("link")).to_have_count(2)
    assert axe_violations(alice) == []
    alice.locator("#account-menu summary").click()
    expect(alice.get_by_role("button", name="Sign out everywhere")).to_be_in_viewport(ratio=1)
    assert axe_violations(alice) == []
    alice.keyboard.press("Escape")
    expect(alice.get_by_role("button", name="Sign out everywhere")).to_be_hidden()
    toggle = alice.get_by_role("button", name="Rooms, people")
    if toggle.is_visible():
        toggle.click()
        expect(alice.locator("#people")).to_be_visible()
        assert axe_violations(alice) == []


@pytest.mark.parametrize("look", LOOKS)
def test_a_lost_connection_has_no_axe_violations(
    new_user: NewUser,
    server: Server,
    page_errors: PageErrors,
    axe_violations: AxeViolations,
    look: str,
) -> None:
    page_errors.allow(LOST_CONNECTION)
    with relay_to(server.url) as relay:
        alice = new_user("Alice", at=relay, **LOOKS[look])
        relay.cut()
        expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
        toggle = alice.get_by_role("button", name="Rooms, people")
        if toggle.is_visible():
            toggle.click()
        expect(alice.get_by_role("list", name="Last seen here")).to_be_visible()
        assert axe_violations(alice) == []


# --- contrast


@pytest.mark.parametrize("look", ["light", "dark"])
def test_avatars_have_twelve_tones_on_which_initials_are_legible(
    new_window: NewWindow, look: str
) -> None:
    page = new_window(**LOOKS[look]).new_page()
    page.goto("/")
    pairs = page.evaluate(
        """async () => {
            const { avatar } = await import("/static/chat/elements.js");
            return Array.from({ length: 300 }, (_, number) => {
                const node = avatar(`user ${number}`);
                document.body.append(node);
                const { color, backgroundColor } = getComputedStyle(node);
                return [backgroundColor, color];
            });
        }"""
    )
    tones = {tuple(pair) for pair in pairs}
    assert len(tones) == AVATAR_TONES
    assert [pair for pair in tones if contrast(*pair) < MIN_CONTRAST] == []


# --- screen reader


def test_a_screen_reader_announces_messages_and_status(new_user: NewUser, room: str) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "Hello Alice!")
    expect_messages(alice, "Hello Alice!")
    log = alice.get_by_role("log", name="Messages")
    expect(log).to_have_attribute("aria-live", "polite")
    expect(log).to_contain_text("Hello Alice!")
    expect(log).to_contain_text("Bob joined")
    expect(alice.get_by_role("status").filter(has_text="Connected")).to_have_count(1)
    for role, name in (
        ("banner", None),
        ("main", None),
        ("complementary", "Rooms and people"),
        ("region", room),
        ("region", "Conversation"),
        ("list", "Rooms"),
        ("textbox", "Message"),
        ("textbox", "Name of a room"),
    ):
        expect(alice.get_by_role(role, name=name, exact=True)).to_have_count(1)  # type: ignore[arg-type]
    for button in alice.get_by_role("button").all():
        expect(button).to_have_accessible_name(re.compile(r"\w"))
    expect(alice.locator("html")).to_have_attribute("lang", "en")


# --- keyboard


def test_the_page_is_usable_by_keyboard(new_window: NewWindow, room: str) -> None:
    page = new_window().new_page()
    open_room(page, room)
    keyboard = page.keyboard
    expect(page.locator("#name")).to_be_focused()
    keyboard.type("Alice")
    keyboard.press("Enter")
    expect_connected(page)

    expect(composer(page)).to_be_focused()
    keyboard.type("Hello,")
    keyboard.press("Shift+Enter")
    keyboard.type("all!")
    keyboard.press("Enter")
    expect_messages(page, "Hello,\nall!")
    expect(composer(page)).to_be_focused()

    keyboard.press("Shift+Tab")
    expect(messages(page)).to_be_focused()
    keyboard.press("Shift+Tab")
    expect(page.get_by_role("region", name="Conversation")).to_be_focused()
    keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="API documentation")).to_be_focused()
    while not page.evaluate("() => document.activeElement.matches('#rooms [aria-current]')"):
        keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name=room, exact=True)).to_be_focused()
    while page.evaluate("() => document.activeElement.matches('#rooms a')"):
        keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Go")).to_be_focused()
    keyboard.press("Shift+Tab")
    expect(page.locator("#room-name")).to_be_focused()
    keyboard.type(f"{room}-2")
    keyboard.press("Enter")
    expect(page.locator("#room-title")).to_have_text(f"{room}-2")
    expect_connected(page)
    expect(composer(page)).to_be_focused()

    keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"


def test_the_skip_link_focuses_the_composer(new_user: NewUser, room: str) -> None:
    alice = new_user("Alice")
    skip = alice.get_by_role("link", name="Skip to the message field")
    skip.focus()
    expect(skip).to_be_in_viewport()
    alice.keyboard.press("Enter")
    expect(composer(alice)).to_be_focused()
    expect(alice.locator("#room-title")).to_have_text(room)


# --- narrow screens


def test_a_narrow_screen_does_not_scroll_horizontally(new_user: NewUser, room: str) -> None:
    long_room = room + "-" + "long" * 30
    alice = new_user("Alice" + "e" * 35, long_room, viewport=NARROW)
    bob = new_user("Bob" + "b" * 37, long_room)
    send_message(bob, "A" * 500)
    send_message(bob, "https://example.com/" + "path/" * 60)
    send_message(alice, "My own text, " * 20 + "W" * 300)
    expect(messages(alice)).to_have_count(3)
    composer(bob).press_sequentially("W")
    expect(alice.locator("#typing")).to_contain_text("is typing…")
    assert fits(alice)
    for part in (
        "#room-title",
        "#message",
        "#send",
        "#side-toggle",
        "#sign-out",
        "#account-menu",
        "#conversation",
    ):
        box = alice.locator(part).bounding_box()
        assert box, part
        assert box["x"] >= 0, part
        assert box["x"] + box["width"] <= NARROW["width"], part
    expect(composer(alice)).to_be_in_viewport(ratio=1)
    alice.locator("#side-toggle").click()
    expect(people(alice).first).to_be_visible()
    assert fits(alice)


def test_the_docs_have_a_margin_on_a_narrow_screen(new_user: NewUser) -> None:
    alice = new_user("Alice", viewport=NARROW)
    alice.get_by_role("button", name="Rooms, people").click()
    alice.get_by_role("link", name="API documentation").click()
    expect(alice.get_by_role("heading", level=2).first).to_be_visible()
    assert fits(alice)
    for part in ("#search", "#document", ".home"):
        box = alice.locator(part).bounding_box()
        assert box, part
        assert box["x"] >= MIN_MARGIN_PX, part
        assert box["x"] + box["width"] <= NARROW["width"] - MIN_MARGIN_PX, part


def test_rooms_and_people_open_and_close_on_a_narrow_screen(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    alice = new_user("Alice", at=serve(), viewport=NARROW)  # It has no rooms of other tests.
    toggle, side = alice.locator("#side-toggle"), alice.locator("#side")

    def expect_open(is_open: bool) -> None:
        expect(toggle).to_have_attribute("aria-expanded", str(is_open).lower())
        expect(side).to_be_visible(visible=is_open)
        expect(alice.get_by_role("list", name="Rooms", exact=True)).to_have_count(int(is_open))

    expect_open(False)
    toggle.click()
    expect_open(True)
    expect(side).to_be_in_viewport(ratio=1)
    toggle.click()
    expect_open(False)

    toggle.click()
    conversation = alice.get_by_role("region", name="Conversation")
    box = conversation.bounding_box()
    assert box
    conversation.click(position={"x": box["width"] / 2, "y": box["height"] - 20})
    expect_open(False)

    toggle.focus()
    alice.keyboard.press("Enter")
    expect_open(True)
    expect(side).to_be_focused()
    alice.keyboard.press("Tab")
    expect(alice.locator("#room-name")).to_be_focused()
    alice.keyboard.press("Escape")
    expect_open(False)
    expect(toggle).to_be_focused()

    alice.keyboard.press("Enter")
    alice.keyboard.press("Tab")
    alice.keyboard.type(f"{room}-2")
    alice.keyboard.press("Enter")
    expect(alice.locator("#room-title")).to_have_text(f"{room}-2")
    expect_connected(alice)
    expect_open(False)


def test_a_wide_screen_always_shows_rooms_and_people(new_user: NewUser) -> None:
    alice = new_user("Alice")
    expect(alice.locator("#side-toggle")).to_be_hidden()
    expect(alice.get_by_role("list", name="Rooms", exact=True)).to_be_visible()
    expect(people(alice)).to_have_count(1)
    assert fits(alice)


# --- dark


def test_the_page_follows_the_system_colour_scheme(new_user: NewUser) -> None:
    alice = new_user("Alice", color_scheme="light")
    light = background(alice)
    ink = "() => getComputedStyle(document.body).color"
    light_ink = alice.evaluate(ink)
    alice.emulate_media(color_scheme="dark")
    dark = background(alice)
    assert sum(light) > 600
    assert sum(dark) < 150
    assert alice.evaluate(ink) != light_ink


# --- layout


@pytest.mark.parametrize("look", ["light", "narrow"])
def test_the_layout_is_stable_during_a_conversation(
    new_window: NewWindow, new_user: NewUser, room: str, look: str
) -> None:
    window = new_window(**LOOKS[look])
    window.add_init_script(COUNT_LAYOUT_SHIFTS)
    alice = window.new_page()
    open_room(alice, room)
    sign_in(alice, "Alice")
    bob = new_user("Bob")
    expect(notes(alice).last).to_have_text("Bob joined")
    for number in range(12):
        composer(bob).press_sequentially("W")
        expect(alice.locator("#typing")).not_to_be_empty()
        send_message(bob, f"{number} " + "and so on " * number)
        expect(messages(alice)).to_have_count(number + 1)
    composer(bob).press_sequentially("W")
    expect(alice.locator("#typing")).not_to_be_empty()
    bob.close()
    expect(notes(alice).last).to_have_text("Bob left")
    shifts = layout_shifts(alice)
    assert sum(value for value, *_ in shifts) < MAX_LAYOUT_SHIFT, shifts

    alice.evaluate("() => { document.querySelector('main').style.marginTop = '200px'; }")
    shifts = layout_shifts(alice)
    assert sum(value for value, *_ in shifts) > MAX_LAYOUT_SHIFT, "a shift is detected"
