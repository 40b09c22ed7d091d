"""The session of a page: per tab or shared by all tabs, expiry and refresh, sign-out, another account."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import BrowserContext, Page, Route, WebSocket, expect

from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE

from .pages import (
    LOST_CONNECTION,
    composer,
    enter,
    expect_connected,
    expect_messages,
    hide,
    notes,
    open_room,
    own_id,
    people,
    second_tab,
    send_message,
    sign_in,
    texts,
)

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, NewWindow, PageErrors, SignIn

ENDED = "Your session has ended. Please sign in again."
ENDED_ELSEWHERE = "You have signed out in another tab."
# A page that has connected before it learns of the other account does not know for certain.
NOT_SENT = re.compile(r"^2 messages (were not|may not have been) sent: you signed out\.$")

# No messages between tabs, as if a tab were suspended.
SILENCE_TABS = "BroadcastChannel.prototype.postMessage = () => {};"


def expect_form(page: Page, notice: str = "") -> None:
    """Wait until the page shows the form, and nothing of the conversation."""
    expect(page.get_by_role("textbox", name="Your name")).to_be_visible()
    expect(page.locator("#chat")).to_be_hidden()
    expect(page.locator("#account")).to_be_hidden()
    expect(page.locator("#notice")).to_have_text(notice)


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()


class Gate:
    """The WebSocket connections of a page that is not loaded yet: refused by the service while the gate is shut.

    They are the browser's own: a connection that Playwright routes logs an error when a message crosses its end.
    """

    SCRIPT = """
    const sockets = [];
    globalThis.gate = { isShut: false, close: () => sockets.forEach((socket) => socket.close()) };
    globalThis.WebSocket = class extends WebSocket {
      constructor(url) {
        super(gate.isShut ? new URL("/refused", url) : url);
        sockets.push(this);
      }
    };
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        page.add_init_script(self.SCRIPT)

    def shut(self) -> None:
        """Close all connections, and refuse others until the gate is opened."""
        self.page.evaluate("() => { gate.isShut = true; gate.close(); }")

    def open(self) -> None:
        """Admit the next connections."""
        self.page.evaluate("() => { gate.isShut = false; }")


# --- per tab


def test_two_tabs_of_a_window_are_two_users(new_user: NewUser, room: str) -> None:
    alice = new_user("Alice")
    bob = alice.context.new_page()
    open_room(bob, room)
    sign_in(bob, "Bob")
    send_message(alice, "from the first tab")
    send_message(bob, "from the second tab")
    for page in (alice, bob):
        page.reload()
        expect_connected(page)
        expect(people(page).locator("bdi")).to_have_text(["Alice", "Bob"])
    sign_out(bob)
    expect_form(bob)
    expect(notes(alice).last).to_have_text("Bob left")
    bob.reload()
    expect_form(bob)
    expect(alice.locator("#own-name")).to_have_text("Alice")
    send_message(alice, "still here")
    expect(texts(alice).last).to_have_text("still here")
    assert alice.context.cookies() == []


# --- shared by all tabs


def test_a_sign_out_reaches_all_tabs_at_once(
    new_window: NewWindow, add_session: SignIn, room: str
) -> None:
    window = new_window()
    add_session(window, "alice", "Alice")
    first, second = window.new_page(), window.new_page()
    for page in (first, second):
        enter(page, room)
    sign_out(first)
    expect_form(first)
    expect_form(second, ENDED_ELSEWHERE)
    assert window.cookies() == []
    second.reload()
    expect_form(second)


def test_a_sign_out_everywhere_reaches_other_browsers(
    new_window: NewWindow, add_session: SignIn, new_user: NewUser, room: str
) -> None:
    bob = new_user("Bob")
    pages = []
    for _ in range(2):
        window = new_window()
        add_session(window, "alice", "Alice")
        pages.append(window.new_page())
        enter(pages[-1], room)
    here, elsewhere = pages
    here.locator("#account-menu summary").click()
    here.get_by_role("button", name="Sign out everywhere").click()
    expect_form(here)
    expect_form(elsewhere, ENDED)
    expect(notes(bob).last).to_have_text("Alice joined and left")
    elsewhere.reload()
    expect_form(elsewhere)


@pytest.mark.parametrize("is_silent", [False, True], ids=["notified", "not notified"])
def test_messages_queued_under_one_account_are_not_sent_under_another(
    new_window: NewWindow,
    add_session: SignIn,
    new_user: NewUser,
    room: str,
    page_errors: PageErrors,
    is_silent: bool,
) -> None:
    page_errors.allow(LOST_CONNECTION)
    carol = new_user("Carol")
    window = new_window()
    if is_silent:
        window.add_init_script(SILENCE_TABS)
    add_session(window, "alice", "Alice")
    first = window.new_page()
    gate = Gate(first)
    enter(first, room)
    gate.shut()
    expect(first.locator("#connection")).to_have_attribute("data-state", "waiting")
    send_message(first, "one")
    send_message(first, "two")
    expect(first.locator("#pending .message")).to_have_count(2)

    add_session(window, "bob", "Bob")
    second = window.new_page()
    enter(second, room)
    gate.open()
    expect(first.locator("#own-name")).to_have_text("Bob")
    expect_connected(first)
    expect(notes(first).filter(has_text=NOT_SENT)).to_have_count(1)
    expect(first.locator("#pending")).to_be_hidden()
    send_message(first, "from Bob")
    for page in (first, second, carol):
        expect_messages(page, "from Bob")


# --- drafts


def test_a_draft_belongs_to_a_room_and_a_user(new_user: NewUser, room: str) -> None:
    alice = new_user("Alice")
    composer(alice).fill("for the first room")
    open_room(alice, f"{room}-2")
    expect_connected(alice)
    expect(composer(alice)).to_have_value("")
    composer(alice).fill("for the second room")
    open_room(alice, room)
    expect(composer(alice)).to_have_value("for the first room")
    alice.reload()
    expect_connected(alice)
    expect(composer(alice)).to_have_value("for the first room")
    sign_out(alice)
    sign_in(alice, "Bob")
    expect(composer(alice)).to_have_value("")


def test_a_draft_is_kept_when_the_page_is_hidden(new_user: NewUser) -> None:
    alice = new_user("Alice")
    composer(alice).fill("not finished")
    hide(alice)
    # A tab that a page opens begins with a copy of its storage.
    expect(composer(second_tab(alice))).to_have_value("not finished")


# --- messages under way


def test_messages_under_way_are_named_once_after_a_reload(
    new_window: NewWindow, room: str, page_errors: PageErrors
) -> None:
    page_errors.allow(LOST_CONNECTION)
    page = new_window().new_page()
    gate = Gate(page)
    open_room(page, room)
    sign_in(page, "Alice")
    send_message(page, "arrived")
    expect_messages(page, "arrived")
    gate.shut()
    expect(page.locator("#connection")).to_have_attribute("data-state", "waiting")
    send_message(page, "one")
    send_message(page, "two")
    expect(page.locator("#pending .message")).to_have_count(2)
    page.reload()
    expect_connected(page)
    lost = f"2 messages to '{room}' may not have been sent: 'one', 'two'."
    expect(notes(page).filter(has_text=lost)).to_have_count(1)
    expect_messages(page, "arrived")
    page.reload()
    expect_connected(page)
    expect(notes(page).filter(has_text="may not have been sent")).to_have_count(0)


def test_a_page_without_storage_sends_messages(new_window: NewWindow, room: str) -> None:
    page = new_window().new_page()
    forbid = "{ get() { throw new DOMException('forbidden', 'SecurityError'); } }"
    page.add_init_script(f"Object.defineProperty(globalThis, 'sessionStorage', {forbid});")
    open_room(page, room)
    sign_in(page, "Alice")
    send_message(page, "one")
    expect_messages(page, "one")


# --- expiry


def test_a_session_is_refreshed_over_the_open_connection(
    new_user: NewUser, serve: Callable[..., Server]
) -> None:
    server = serve(APP_TOKEN_LIFETIME_SECONDS="4")
    alice = new_user("Alice", at=server)
    bob = new_user("Bob", at=server)
    sockets: list[WebSocket] = []
    alice.on("websocket", lambda socket: sockets.append(socket))
    for number in range(3):
        with alice.expect_response(re.compile("/session/refresh$")) as response:
            send_message(bob, f"before refresh {number}")
        assert response.value.ok
        send_message(alice, f"after refresh {number}")
        expect(texts(bob).last).to_have_text(f"after refresh {number}")
    expect(texts(alice)).to_have_count(6)
    expect(alice.locator("#connection")).to_have_attribute("data-state", "open")
    assert sockets == []
    alice.reload()
    expect_connected(alice)


def test_a_cookie_session_is_refreshed_and_its_cookie_replaced(
    new_window: NewWindow, add_session: SignIn, serve: Callable[..., Server], room: str
) -> None:
    server = serve(APP_TOKEN_LIFETIME_SECONDS="4")
    window = new_window(at=server)
    add_session(window, "alice", "Alice", at=server, seconds=4)
    [before] = window.cookies()
    page = window.new_page()
    with page.expect_response(re.compile("/session/refresh$")) as response:
        enter(page, room)
    assert response.value.json().keys() == {"ticket", "expiresAt"}
    [after] = window.cookies()
    assert after.get("name") == before.get("name") == SESSION_COOKIE
    assert after.get("value") != before.get("value")
    assert after.get("httpOnly")


def test_an_expired_session_asks_for_another_sign_in(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors
) -> None:
    page_errors.allow(r"status of 503 \(Service Unavailable\) at \S+/session/refresh$")
    server = serve(APP_TOKEN_LIFETIME_SECONDS="4")

    def fail(route: Route) -> None:
        route.fulfill(status=503)

    alice = new_user("Alice", at=server)
    alice_id = own_id(alice)
    alice.route("**/session/refresh", fail)
    send_message(alice, "before")
    composer(alice).fill("not yet sent")
    expect_form(alice, ENDED)
    alice.unroute("**/session/refresh", fail)
    expect(alice.get_by_role("textbox", name="Your name")).to_have_value("Alice")
    sign_in(alice, "Alice")
    if own_id(alice) == alice_id:
        expect_messages(alice, "before")
        expect(composer(alice)).to_have_value("not yet sent")


def test_a_service_that_cannot_check_a_session_signs_nobody_out(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors
) -> None:
    page_errors.allow(r"status of 503 \(Service Unavailable\) at \S+/session")
    page_errors.allow(r"status of 401 \(Unauthorized\) at \S+/session/ticket$")
    alice = new_user("Alice", at=serve(APP_TOKEN_LIFETIME_SECONDS="4"))
    alice.route(re.compile("/session"), lambda route: route.fulfill(status=503))
    send_message(alice, "before")
    expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
    expect_messages(alice, "before")
    expect(alice.locator("#own-name")).to_have_text("Alice")
    alice.unroute_all()
    expect_form(alice, ENDED)


# --- ways to sign in


def answer_session(window: BrowserContext, sign_in_way: str) -> None:
    """Let the page see a service with another way to sign in."""
    answer = {"user": None, "expiresAt": None, "signIn": sign_in_way}
    window.route("**/session", lambda route: route.fulfill(json=answer))


def test_the_page_leads_to_the_identity_provider(new_window: NewWindow, room: str) -> None:
    window = new_window()
    answer_session(window, "provider")
    window.route(re.compile("/login"), lambda route: route.fulfill(body="the provider"))
    page = window.new_page()
    open_room(page, f"{room} & more")
    button = page.get_by_role("button", name="Sign in")
    expect(button).to_be_focused()
    expect(page.get_by_role("textbox", name="Your name")).to_be_hidden()
    expect(page.locator("#sign-in-provider bdi")).to_have_text(f"{room} & more")
    with page.expect_request(re.compile("/login")) as requested:
        button.click()
    expect(page.get_by_text("the provider")).to_be_visible()
    assert requested.value.url.endswith(f"/login?next=%23{room}%2520%2526%2520more")


def test_without_a_sign_in_the_page_names_the_way_of_programs(
    new_window: NewWindow, room: str
) -> None:
    window = new_window()
    answer_session(window, "none")
    page = window.new_page()
    open_room(page, room)
    expect(page.get_by_text("Programs sign in with a token")).to_be_visible()
    expect(page.get_by_role("link", name="API documentation")).to_be_visible()
    expect(page.get_by_role("textbox", name="Your name")).to_be_hidden()
    expect(page.get_by_role("button")).to_have_count(0)
