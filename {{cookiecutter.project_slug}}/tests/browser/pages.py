"""Actions and locators of the chat page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import BrowserContext, Locator, Page, TimeoutError, ViewportSize, expect

from {{ cookiecutter.package_name }} import app

# The timeout of every wait in the browser, far above the usual time even on a busy machine.
WAIT_SECONDS = 20.0

# The timeout of a click on what a message that arrives may move away.
CLICK_MS = 2000.0

# What Chromium logs when a page has lost its connection and connects again.
LOST_CONNECTION = (
    r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: "
    r"|Failed to load resource: net::ERR_\w+ at \S+/session/ticket$"
)

# Options of ``new_context``.
NARROW = ViewportSize(width=360, height=740)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": NARROW},
    "narrow dark": {"color_scheme": "dark", "viewport": NARROW},
}


def open_room(page: Page, room: str) -> None:
    """Load the page with a room in its URL."""
    page.goto(f"/#{quote(room, safe='')}")


def open_without_module(
    new_window: Callable[[], BrowserContext], module: str, *, lines: int
) -> Page:
    """Open a page from which an owner has deleted a module of the chat, and the lines of `main.js` that name it."""
    main = Path(app.WEB_FOLDER, "chat/main.js").read_text("utf-8").splitlines(keepends=True)
    without = "".join(line for line in main if module not in line.lower())
    assert len(without.splitlines()) == len(main) - lines
    window = new_window()
    window.route(f"**/{module}.js", lambda route: route.abort())
    window.route(
        "**/main.js", lambda route: route.fulfill(body=without, content_type="text/javascript")
    )
    return window.new_page()


def expect_connected(page: Page) -> None:
    """Wait until the page is connected and has received the room's state."""
    expect(page.locator("#connection")).to_have_attribute("data-state", "open")
    expect(page.get_by_role("list", name="Here now", include_hidden=True)).to_be_attached()
    expect(people(page).filter(has_text="(you)")).to_have_count(1)


def enter(page: Page, room: str) -> None:
    """Load the page of a signed-in user and wait until it has entered the room."""
    open_room(page, room)
    expect_connected(page)


def sign_in(page: Page, name: str) -> None:
    """Sign in with the form, and wait until the page has entered the room."""
    page.get_by_role("textbox", name="Your name").fill(name)
    page.get_by_role("button", name="Enter").click()
    expect_connected(page)


def second_tab(page: Page) -> Page:
    """Open the page in a second tab, which inherits the sign-in of the first one, and enter its room."""
    with page.expect_popup() as opened:
        page.evaluate("() => void open(location.href)")
    expect_connected(opened.value)
    return opened.value


def composer(page: Page) -> Locator:
    """Return the field in which messages are written."""
    return page.get_by_role("textbox", name="Message", exact=True)


def send_message(page: Page, text: str) -> None:
    """Write and send a message."""
    composer(page).fill(text)
    composer(page).press("Enter")


def messages(page: Page) -> Locator:
    """Return the received messages of all users."""
    return page.get_by_role("log").locator(".message")


def own_messages(page: Page) -> Locator:
    """Return the received messages of the page's user."""
    return page.get_by_role("log").locator(".message.own")


def texts(page: Page) -> Locator:
    """Return the texts of the received messages."""
    return messages(page).locator(".text")


def message(page: Page, text: str) -> Locator:
    """Return the received message with this text."""
    return messages(page).filter(
        has=page.locator(".text", has_text=re.compile(f"^{re.escape(text)}$"))
    )


def act(page: Page, text: str, action: str) -> None:
    """Choose an action on the message with this text."""
    bubble = message(page, text).locator(".bubble")
    bar = page.get_by_role("group", name="Actions for this message")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        # The bar of another message may cover a part of it.
        bubble.hover(position={"x": 4, "y": 4})
        try:
            bar.get_by_role("button", name=action, exact=True).click(timeout=CLICK_MS)
        except TimeoutError:
            # NOTE: a message that arrives scrolls the log, and the bar follows the pointer to another message.
            if time.monotonic() > deadline:
                raise
        else:
            return


def hide(page: Page, is_hidden: bool = True) -> None:
    """Hide the page, as another tab does, or show it again; pages of headless browsers are always visible."""
    page.evaluate(
        """(isHidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, value: isHidden });
          document.hasFocus = () => !isHidden;
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def notes(page: Page) -> Locator:
    """Return the texts of the page's and the service's notes, such as joins and leaves."""
    return page.get_by_role("log").locator(".system .text")


def people(page: Page) -> Locator:
    """Return the entries of the list of people."""
    return page.locator("#people").get_by_role("listitem", include_hidden=True)


def own_id(page: Page) -> str:
    """Return the id of the page's user, who is connected."""
    own = people(page).filter(has_text="(you)").locator("bdi")
    user_id: str | None = own.get_attribute("data-user-id")
    assert user_id
    return user_id


def expect_messages(page: Page, *expected: str) -> None:
    """Wait until the log has exactly these messages."""
    expect(texts(page)).to_have_text(list(expected))


def stop_clock(page: Page) -> None:
    """Stop the page's timers: only messages from the service have an effect."""
    page.clock.install()
    page.clock.pause_at(datetime.now() + timedelta(hours=1))
