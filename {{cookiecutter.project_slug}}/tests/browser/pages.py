"""What people do on the page, and where they look."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Locator, Page, ViewportSize, expect

# The bound of every wait in the browser. Nothing takes nearly as long, even on a busy machine.
WAIT_SECONDS = 20.0

# How the pages are looked at.
NARROW = ViewportSize(width=360, height=740)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": NARROW},
    "narrow dark": {"color_scheme": "dark", "viewport": NARROW},
}


def open_room(page: Page, room: str) -> None:
    """Load the page at a room's address."""
    page.goto(f"/#{quote(room, safe='')}")


def expect_connected(page: Page) -> None:
    """Wait until the page is in its room: connected, and told who is there."""
    expect(page.locator("#connection")).to_have_attribute("data-state", "open")
    expect(people(page).filter(has_text="(you)")).to_have_count(1)


def enter(page: Page, room: str) -> None:
    """Load the page of somebody who is signed in, and wait until it is in the room."""
    open_room(page, room)
    expect_connected(page)


def composer(page: Page) -> Locator:
    """Where messages are written."""
    return page.get_by_role("textbox", name="Message", exact=True)


def say(page: Page, text: str) -> None:
    """Write a message and send it."""
    composer(page).fill(text)
    composer(page).press("Enter")


def messages(page: Page) -> Locator:
    """The messages that have arrived: everybody's."""
    return page.get_by_role("log").locator(".message")


def own_messages(page: Page) -> Locator:
    """The messages of the person at the page that have arrived."""
    return page.get_by_role("log").locator(".message.own")


def texts(page: Page) -> Locator:
    """What the messages say."""
    return messages(page).locator(".text")


def notes(page: Page) -> Locator:
    """What the page and the service say: who came, who went, what happened."""
    return page.get_by_role("log").locator(".system .text")


def people(page: Page) -> Locator:
    """Who is in the room."""
    return page.locator("#people").get_by_role("listitem", include_hidden=True)


def expect_heard(page: Page, *said: str) -> None:
    """Wait until these messages are in the log, and no others."""
    expect(texts(page)).to_have_text(list(said))


def stop_clock(page: Page) -> None:
    """From now on nothing happens on the page by itself, only what the service tells it."""
    page.clock.install()
    page.clock.pause_at(datetime.now() + timedelta(hours=1))
