"""Screenshots of the pages in use; the variable SCREENSHOTS names a folder that keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from .pages import act, composer, enter, hide, notes, own_messages, send_message, texts

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, NewWindow

WIDE = ViewportSize(width=1120, height=800)
NARROW = ViewportSize(width=390, height=780)
MAX_SCREENSHOT_BYTES = 200 * 1024

ROOM = "weekend-hike"
OTHER_ROOMS = ("general", "recipes")
ANNOUNCEMENT = "System maintenance is scheduled for 2 AM UTC."
COFFEE = "I can bring the stove and coffee ☕"
TRAIN = "The 8:12 from platform 4: https://trains.example/4"
QUESTION = "8:12 it is. Does anybody have a spare pair of poles?"
BEFORE: Sequence[tuple[str, str]] = (
    ("Amira", "Morning! Are we still on for Saturday?"),
    ("Jonas", "Yes. The forecast says sun until four."),
    ("Jonas", COFFEE),
    ("Amira", "Perfect. Then I take care of bread and cheese."),
    ("Priya", "Count me in. Which train do we take?"),
)
AFTER: Sequence[tuple[str, str]] = (
    ("Amira", TRAIN),
    ("Priya", QUESTION),
)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """The folder of the screenshots."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def take_screenshot(page: Page, path: Path, typing: Locator | None = None) -> None:
    """Save a screenshot; with `typing`, press a key there first so that the indicator is shown."""
    if typing is not None:
        typing.press("a")
        expect(page.locator("#typing")).to_contain_text("is typing…")
    page.screenshot(path=path, animations="disabled", caret="hide")
    assert 0 < path.stat().st_size < MAX_SCREENSHOT_BYTES


def test_screenshots_of_a_conversation(
    new_user: NewUser, serve: Callable[..., Server], screenshots: Path
) -> None:
    server = serve(APP_ANNOUNCEMENT_INTERVAL_SECONDS="8", APP_ANNOUNCEMENT_TEXT=ANNOUNCEMENT)
    amira = new_user(
        "Amira",
        OTHER_ROOMS[0],
        at=server,
        viewport=WIDE,
        device_scale_factor=1.5,
        color_scheme="light",
    )
    enter(amira, OTHER_ROOMS[1])
    lena = new_user("Lena", OTHER_ROOMS[1], at=server)
    send_message(lena, "Has anybody a recipe for flatbread?")
    expect(texts(amira)).to_have_count(1)
    enter(amira, ROOM)
    for text in ("Found one!", "It needs yoghurt."):
        send_message(lena, text)
    expect(texts(lena)).to_have_count(3)
    pages = {"Amira": amira}
    for name, note in (("Jonas", "Jonas joined"), ("Priya", "Jonas and Priya joined")):
        pages[name] = new_user(name, ROOM, at=server)
        expect(notes(amira).last).to_have_text(note)
    announcement = amira.get_by_role("log").locator(".announcement").first
    for part in (BEFORE, AFTER):
        for name, text in part:
            if text == QUESTION:
                act(pages[name], TRAIN, "Reply")
            send_message(pages[name], text)
            expect(texts(amira).last).to_have_text(text)
        expect(announcement).to_contain_text(ANNOUNCEMENT)
    expect(own_messages(amira)).to_have_count(3)
    for name in ("Amira", "Priya"):
        act(pages[name], COFFEE, "React")
        pages[name].get_by_role("button", name="Heart", exact=True).click()
    expect(amira.get_by_role("button", name="Heart, 2", exact=True)).to_be_visible()
    hide(amira)
    hide(amira, False)
    expect(amira.get_by_role("link", name="2 unread messages")).to_be_visible()

    typing = composer(pages["Jonas"])
    composer(amira).fill("I have two pairs, I bring")
    amira.mouse.move(0, 0)
    amira.locator("#conversation").evaluate("(frame) => frame.scrollTo(0, frame.scrollHeight)")
    take_screenshot(amira, screenshots / "light.png", typing)
    amira.emulate_media(color_scheme="dark")
    take_screenshot(amira, screenshots / "dark.png", typing)
    amira.emulate_media(color_scheme="light")
    amira.set_viewport_size(NARROW)
    take_screenshot(amira, screenshots / "narrow.png", typing)


def test_a_screenshot_of_the_docs(new_window: NewWindow, screenshots: Path) -> None:
    page = new_window(viewport=WIDE, color_scheme="light").new_page()
    page.goto("/docs")
    page.get_by_role("navigation").get_by_role("link", name="clientSendMessage").click()
    send = page.get_by_role("button", name="Send clientSendMessage")
    article = page.get_by_role("article").filter(
        has=page.get_by_role("heading", name="clientSendMessage", exact=True)
    )
    article.get_by_text("Try it").click()
    page.mouse.move(0, 0)
    expect(send).to_be_in_viewport()
    take_screenshot(page, screenshots / "docs.png")
