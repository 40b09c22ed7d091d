"""User text is never markup, and the page runs only its own files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from .pages import (
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

if TYPE_CHECKING:
    from .conftest import NewUser, NewWindow, PageErrors

POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}

# As markup, each would run code or create an element with the class. MARKUP contains no slash, so
# that it is also a valid name of a room.
MARKUP = "<img class=x src=x onerror=ran=1>"
TEXTS = (
    "<script class=x>ran = 1</script>",
    MARKUP,
    "<a class=x href='javascript:ran=1'>click</a> <b class=x>&amp;</b>",
    "<style class=x>* { display: none }</style>",
    '${ran=1} "><svg class=x onload=ran=1>',
    "\u202eright to left <b class=x>",
    "https://a.example/<b class=x>'onclick=ran=1",
)


def expect_nothing_ran(page: Page) -> None:
    """Expect that no text became an element or ran as code."""
    expect(page.locator(".x")).to_have_count(0)
    assert page.evaluate("() => typeof ran") == "undefined"


def test_markup_in_names_and_messages_stays_text(new_user: NewUser, room: str) -> None:
    markup_room = f"{room[:6]}{MARKUP}"
    alice = new_user("Alice", markup_room)
    mallory = new_user(MARKUP, markup_room)
    expect(notes(alice).last).to_have_text(f"{MARKUP} joined")
    expect(people(alice).locator("bdi")).to_have_text([MARKUP, "Alice"])
    for page in (alice, mallory):
        expect(page.locator("#room-title")).to_have_text(markup_room)
        expect(page.locator("#rooms [aria-current]")).to_have_text(markup_room)
        expect(page).to_have_title(re.compile(f"^{re.escape(markup_room)} · "))
    expect(mallory.locator("#own-name")).to_have_text(MARKUP)
    composer(mallory).press_sequentially("<")
    expect(alice.locator("#typing")).to_have_text(f"{MARKUP} is typing…")
    for text in TEXTS:
        send_message(mallory, text)
    for page in (alice, mallory):
        expect_messages(page, *TEXTS)
        expect_nothing_ran(page)
    expect(messages(alice).locator(".author").first).to_have_text(MARKUP)


def test_a_link_in_a_message_opens_a_page_without_access_to_the_chat(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    target = alice.evaluate("() => new URL('/docs', location).href")
    send_message(
        bob, f"See ({target}), not javascript:alert(1) or https://bank.example@evil.example."
    )
    for page in (alice, bob):
        link = messages(page).get_by_role("link")
        expect(link).to_have_text([target])
        expect(link).to_have_attribute("href", target)
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
        assert link.evaluate("(link) => getComputedStyle(link).unicodeBidi") == "isolate"
    with alice.context.expect_page() as opened:
        messages(alice).get_by_role("link").click()
    expect(opened.value).to_have_url(target)
    assert opened.value.evaluate("() => [opener, document.referrer]") == [None, ""]
    expect_connected(alice)


def test_the_host_of_a_link_in_another_script_is_shown_in_ascii(new_user: NewUser) -> None:
    alice = new_user("Alice")
    send_message(alice, "https://b\u0430nk.example/")  # A Cyrillic letter.
    expect(messages(alice).get_by_title("https://xn--bnk-6cd.example/")).to_be_visible()


def test_code_between_backticks_is_marked_up(new_user: NewUser) -> None:
    alice, bob = new_user("Alice"), new_user("Bob")
    send_message(bob, "Run `make <b class=x>`:\n```\nif https://a.example:\n    stop\n```")
    for page in (alice, bob):
        code = messages(page).locator("code")
        expect(code).to_have_text(["make <b class=x>", "if https://a.example:\n    stop"])
        expect(code.last).to_have_css("display", "block")
        expect(messages(page).get_by_role("link")).to_have_count(0)
        expect_nothing_ran(page)


def test_markup_in_a_refused_sign_in_stays_text(
    new_window: NewWindow, room: str, page_errors: PageErrors
) -> None:
    page_errors.allow(r"status of 422 \(Unprocessable Entity\) at \S+/session$")
    page = new_window().new_page()
    page.goto(f"/#{MARKUP}")
    expect(page.locator("#sign-in-hint bdi")).to_have_text(MARKUP)
    field = page.get_by_role("textbox", name="Your name")
    field.fill(MARKUP + MARKUP)
    field.press("Enter")
    expect(page.locator("#name-error")).not_to_be_empty()
    expect_nothing_ran(page)


def test_a_right_to_left_name_does_not_reorder_the_page(new_user: NewUser, room: str) -> None:
    name, digits = f"חדר {room[:4]}", "123"
    alice = new_user("Alice", name)
    mallory = new_user(f"מלורי {digits}", name)
    note = notes(alice).last
    expect(note).to_have_text(f"מלורי {digits} joined")
    isolation = "(note) => getComputedStyle(note.querySelector('bdi')).unicodeBidi"
    assert note.evaluate(isolation) == "isolate"
    assert note.evaluate("(note) => getComputedStyle(note).direction") == "ltr"
    expect(alice).to_have_title(re.compile(f"^\u2068{re.escape(name)}\u2069 · "))
    expect(notes(mallory).first).to_contain_text(f"to room '\u2068{name}\u2069'!")
    expect(alice.locator("#room-title bdi")).to_have_text(name)


def test_a_long_room_name_is_shortened_in_sentences(new_user: NewUser, room: str) -> None:
    name = f"{room} is closed. Sign in at evil.example instead"
    alice = new_user("Alice", name)
    short = f"{name[:39]}…"
    expect(notes(alice).first).to_have_text(f"Welcome Alice to room '{short}'!")
    expect(alice).to_have_title(re.compile(f"^{re.escape(short)} · "))
    expect(alice.locator("#room-title")).to_have_text(name)


def test_a_decomposed_name_enters_the_room_of_the_composed_one(
    new_user: NewUser, room: str
) -> None:
    alice = new_user("Alice", f"{room} é")
    bob = new_user("Bob", f"{room} e\u0301")
    send_message(bob, "Hello")
    expect_messages(alice, "Hello")


def test_the_policy_is_strict_and_the_page_has_no_inline_code(new_user: NewUser) -> None:
    alice = new_user("Alice")
    send_message(alice, "Hello")
    expect_messages(alice, "Hello")
    answer = alice.reload()
    assert answer
    policy = answer.header_value("content-security-policy")
    assert policy
    assert {part.strip() for part in policy.split(";")} == POLICY
    expect_connected(alice)
    inline = alice.evaluate(
        """() => [...document.querySelectorAll("*")].filter((element) =>
            element.localName === "style" || (element.localName === "script" && !element.src)
            || element.getAttributeNames().some((name) => name === "style" || name.startsWith("on"))
        ).map((element) => element.outerHTML)"""
    )
    assert inline == []
    assert alice.evaluate("() => document.querySelectorAll('script[src]').length") > 0


@pytest.mark.parametrize(
    "attack",
    [
        "document.body.append(Object.assign(document.createElement('script'), {text: 'ran = 1'}))",
        "document.body.insertAdjacentHTML('beforeend', '<img src=data: onerror=ran=1>')",
        "setTimeout('ran = 1')",
        "document.body.append(Object.assign(document.createElement('script'),"
        " {src: 'data:text/javascript,ran=1'}))",
    ],
    ids=["script", "handler", "eval", "data"],
)
def test_injected_code_does_not_run(
    new_user: NewUser, page_errors: PageErrors, attack: str
) -> None:
    alice = new_user("Alice")
    page_errors.allow("Content[- ]Security[- ]Policy")
    page_errors.allow("ERR_INVALID_URL at data:$")
    with alice.expect_console_message(
        lambda message: message.text.startswith("Content-Security-Policy: script-src")
    ):
        alice.evaluate(f"() => void ({attack})")
    assert alice.evaluate("() => typeof ran") == "undefined"
    assert any("script-src" in error for error in page_errors.recorded)


def test_the_page_loads_only_from_its_own_origin(new_window: NewWindow, room: str) -> None:
    window = new_window()
    requested: list[str] = []
    window.on("request", lambda request: requested.append(request.url))
    page = window.new_page()
    open_room(page, room)
    sign_in(page, "Alice")
    own = page.evaluate("() => location.origin")
    assert requested
    assert [url for url in requested if not url.startswith(f"{own}/")] == []
