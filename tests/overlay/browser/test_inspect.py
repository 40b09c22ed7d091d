"""The page /inspect: live data, the actions after a confirmation, keyboard and accessibility."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from ..conftest import Server
from .pages import LOOKS

if TYPE_CHECKING:
    from .conftest import AxeViolations, NewUser, NewWindow, PageErrors

# A chart whose largest value is not 0.
MOVED = re.compile(r" now, (0\.)?[1-9]\S* at most$")
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def development(serve: Callable[..., Server]) -> Server:
    """A service in development, where the page exists."""
    return serve(APP_ENVIRONMENT="development", APP_PRESENCE_GRACE_SECONDS="0.1")


@pytest.fixture
def inspect(new_window: NewWindow, development: Server) -> Page:
    """The page, which has loaded its data."""
    return open_inspect(new_window, development)


def open_inspect(new_window: NewWindow, server: Server, **options: object) -> Page:
    page = new_window(at=server, **options).new_page()
    page.goto("/inspect")
    expect(page.locator("#connection-count")).not_to_be_empty()
    return page


def rows(page: Page, table: str, text: str) -> Locator:
    """Return the rows of a table with a text."""
    return page.locator(f"#{table} tbody tr").filter(has_text=text)


def chart(page: Page, title: str) -> Locator:
    return page.get_by_role("img", name=re.compile(f"^{title}: "))


def text_field(page: Page) -> Locator:
    """Return the field with the announcement."""
    return page.get_by_role("textbox", name="To all rooms")


def test_rooms_connections_and_rates_are_live(
    inspect: Page, new_user: NewUser, development: Server, room: str
) -> None:
    expect(inspect.get_by_text("No room has members.")).to_be_visible()
    expect(inspect.get_by_text("The service runs without Redis")).to_be_visible()
    expect(inspect.get_by_text("No client has messages waiting.")).to_be_visible()
    alice = new_user("Alice", at=development)
    new_user(MARKUP, at=development)
    expect(rows(inspect, "rooms", room).get_by_role("cell")).to_have_text(
        ["2", "2", f"{MARKUP}, Alice"]
    )
    expect(rows(inspect, "connections", "Alice")).to_contain_text(room)
    expect(rows(inspect, "connections", MARKUP)).to_be_visible()
    expect(chart(inspect, "Connections")).to_have_accessible_name("Connections: 2 now, 2 at most")
    alice.get_by_role("textbox", name="Message", exact=True).fill("hello")
    alice.keyboard.press("Enter")
    for title in ("Messages in per second", "New connections per second"):
        expect(chart(inspect, title)).to_have_accessible_name(MOVED)
    inspect.get_by_label("Only the user with the id").fill("Alice")
    expect(inspect.locator("#connections tbody tr")).to_have_count(1)
    alice.close()
    inspect.get_by_label("Only the user with the id").fill("")
    expect(rows(inspect, "connections", "Alice")).to_have_count(0)


def test_a_slow_client_is_shown(inspect: Page) -> None:
    def slow(route: Route) -> None:
        state = route.fetch().json()
        state["processes"][0]["connections"] = [
            {"id": "1", "user": "Carol", "route": "/ws", "seconds": 3700.0, "backlog_bytes": 2048}
            | {"rooms": [], "room_count": 0}
        ]
        state["problem"] = "process 7 has not answered within 2 s"
        route.fulfill(json=state)

    inspect.route("**/inspect.json", slow)
    expect(rows(inspect, "slow", "Carol")).to_contain_text("2 KiB1 h 1 min")
    expect(inspect.get_by_role("alert")).to_have_text("process 7 has not answered within 2 s")


def test_each_action_is_confirmed_with_the_keyboard(
    inspect: Page, new_user: NewUser, development: Server
) -> None:
    alice = new_user("Alice", at=development)
    dialog = inspect.get_by_role("dialog")

    text_field(inspect).fill(MARKUP)
    inspect.keyboard.press("Enter")
    expect(dialog).to_contain_text(MARKUP)
    inspect.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(text_field(inspect)).to_be_focused()
    inspect.keyboard.press("Enter")
    inspect.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name="Announce")).to_be_focused()
    inspect.keyboard.press("Enter")
    expect(inspect.get_by_role("status")).to_have_text("Announced to 1 rooms.")
    expect(alice.get_by_role("log")).to_contain_text(MARKUP)

    ban = inspect.get_by_role("table").last.get_by_role("button", name="Ban Alice")
    ban.focus()
    # The rows are written again each second; the focus stays.
    with inspect.expect_response("**/inspect.json"):
        pass
    with inspect.expect_response("**/inspect.json"):
        pass
    expect(ban).to_be_focused()
    inspect.keyboard.press("Enter")
    dialog.get_by_label("For").select_option("24 hours")
    dialog.get_by_role("button", name="Ban").press("Enter")
    expect(inspect.get_by_role("status")).to_have_text("Alice is banned for 24 hours.")
    expect(rows(inspect, "connections", "Alice")).to_have_count(0)
    expect(inspect.locator("main")).to_be_focused()


def test_a_failed_action_and_an_ended_service_are_reported(
    inspect: Page, development: Server, page_errors: PageErrors
) -> None:
    page_errors.allow(r"Failed to load resource: ")

    def refuse(route: Route) -> None:
        if route.request.method == "POST":
            route.fulfill(status=422, json={"title": "Refused", "description": "too long"})
        else:
            route.continue_()

    inspect.route("**/inspect.json", refuse)
    text_field(inspect).fill("Tea!")
    inspect.keyboard.press("Enter")
    inspect.get_by_role("dialog").get_by_role("button", name="Announce").click()
    expect(inspect.get_by_role("alert")).to_have_text("Not done: too long")
    development.stop()
    expect(inspect.get_by_role("alert")).to_contain_text("The service does not answer")


def test_updates_can_be_paused(inspect: Page, new_user: NewUser, development: Server) -> None:
    inspect.get_by_role("button", name="Pause").click()
    new_user("Alice", at=development)
    requests: list[str] = []
    inspect.on("request", lambda request: requests.append(request.url))
    inspect.wait_for_timeout(2000)
    assert requests == []
    expect(rows(inspect, "connections", "Alice")).to_have_count(0)
    inspect.get_by_role("button", name="Pause").click()
    expect(rows(inspect, "connections", "Alice")).to_have_count(1)


def test_the_page_is_accessible(
    new_window: NewWindow,
    new_user: NewUser,
    development: Server,
    axe_violations: AxeViolations,
) -> None:
    new_user("Alice", at=development)
    for look, options in LOOKS.items():
        page = open_inspect(new_window, development, **options)
        button = rows(page, "connections", "Alice").get_by_role("button", name="Ban Alice")
        expect(button).to_be_visible()
        assert axe_violations(page) == [], look
        button.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert axe_violations(page) == [], look
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), look
