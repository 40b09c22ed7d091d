"""Users are told apart by id; bans and mutes are shown; the page works below a path prefix."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from falcon_pachinko.publisher import Publisher

from {{ cookiecutter.package_name }} import app

from ..valkey import running_valkey
from .pages import (
    WAIT_SECONDS,
    composer,
    enter,
    expect_connected,
    expect_messages,
    messages,
    notes,
    open_room,
    own_id,
    people,
    send_message,
    sign_in,
)

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, NewWindow, SignIn

LOCAL_TIME = re.compile(r"until \d{1,2} \w+ \d{4}(,| at) \d\d:\d\d\.")

Outside = Callable[[Callable[[Publisher], Any]], Any]


# --- names


def test_users_with_one_name_are_told_apart(
    new_window: NewWindow, add_session: SignIn, new_user: NewUser, room: str
) -> None:
    alice = new_user("Alice")
    sams: list[Page] = []
    for user_id, name in (("idp|one-5f7c", "Sam"), ("idp|two-9d2e", "Sam"), ("idp|3-2e", "ＳＡＭ")):
        window = new_window()
        add_session(window, user_id, name)
        sams.append(window.new_page())
        enter(sams[-1], room)
        send_message(sams[-1], f"I am {user_id}")
    shown = ["Sam (5f7c)", "Sam (9d2e)", "ＳＡＭ (3-2e)"]
    # The first message was received while there was one Sam only.
    expect(messages(alice).locator(".author")).to_have_text(shown)
    expect(people(alice).locator("bdi")).to_have_text(["Alice", *shown])
    composer(sams[1]).press_sequentially("I")
    expect(alice.locator("#typing")).to_have_text("Sam (9d2e) is typing…")
    sams[2].close()
    expect(notes(alice).last).to_have_text("ＳＡＭ (3-2e) left")
    for sam in sams[:2]:
        expect(sam.locator("#own-name")).to_have_text("Sam")
        expect(sam.get_by_role("log").locator(".message.own .author")).to_have_text("You")

    # A screen reader would announce a name that is written again.
    messages(alice).locator(".author bdi").first.evaluate(
        """(name) => {
          globalThis.writes = 0;
          new MutationObserver(() => { writes += 1; }).observe(name, { childList: true });
        }"""
    )
    window = new_window()
    add_session(window, "idp|four-77aa", "Sam")
    enter(window.new_page(), room)
    expect(people(alice).filter(has_text="Sam (77aa)")).to_have_count(1)
    assert alice.evaluate("() => writes") == 0


@pytest.mark.parametrize("name", ["You", "SYSTEM", "Ａnnouncement"])
def test_a_name_that_reads_as_the_pages_own_word_has_a_part_of_the_id(
    new_window: NewWindow, add_session: SignIn, new_user: NewUser, room: str, name: str
) -> None:
    alice = new_user("Alice")
    window = new_window()
    add_session(window, "idp|mallory-5f7c", name)
    mallory = window.new_page()
    enter(mallory, room)
    send_message(mallory, "believe me")
    expect(messages(alice).locator(".author")).to_have_text(f"{name} (5f7c)")
    expect(notes(alice).last).to_have_text(f"{name} (5f7c) joined")
    expect(people(alice).filter(has_text=f"{name} (5f7c)")).to_have_count(1)


# --- moderation


@pytest.fixture
def moderated(serve: Callable[..., Server]) -> Iterator[tuple[Server, Outside]]:
    """A service, and a function that moderates it from outside."""
    with running_valkey() as valkey:
        server = serve(APP_BACKEND_URL=valkey.url)

        def outside(action: Callable[[Publisher], Any]) -> Any:
            def run() -> Any:
                with Publisher(valkey.url, prefix=app.__name__.partition(".")[0]) as publisher:
                    return action(publisher)

            with ThreadPoolExecutor() as threads:  # This thread runs Playwright's event loop.
                return threads.submit(run).result(WAIT_SECONDS)

        yield server, outside


def test_a_banned_user_sees_the_end_of_the_ban(
    new_user: NewUser, moderated: tuple[Server, Outside], room: str
) -> None:
    server, outside = moderated
    alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
    bob_id = own_id(bob)
    end = datetime.now(UTC) + timedelta(hours=1)
    outside(lambda publisher: publisher.ban(bob_id, app.ROOM_PREFIX + room, seconds=3600))
    note = notes(bob).last
    expect(note).to_have_text(re.compile("^You are banned " + LOCAL_TIME.pattern + "$"))
    expect(note).to_contain_text(str(end.astimezone().year))
    expect(bob.locator("#connection")).to_have_attribute("data-state", "closed")
    expect(bob.get_by_role("button", name="Connect again")).to_be_hidden()
    expect(notes(alice).last).to_have_text("Bob joined and left")

    open_room(bob, f"{room}-2")
    expect_connected(bob)
    open_room(bob, room)
    expect(note).to_have_text(re.compile("^You are banned "))
    outside(lambda publisher: publisher.unban(bob_id, app.ROOM_PREFIX + room))
    bob.reload()
    expect_connected(bob)


def test_a_user_can_connect_again_when_a_ban_has_ended(
    new_user: NewUser, moderated: tuple[Server, Outside]
) -> None:
    server, outside = moderated
    bob = new_user("Bob", at=server)
    bob_id = own_id(bob)
    outside(lambda publisher: publisher.ban(bob_id, seconds=3))
    expect(notes(bob).last).to_contain_text("You are banned until")
    again = bob.get_by_role("button", name="Connect again")
    expect(again).to_be_visible()
    again.click()
    expect_connected(bob)


def test_a_muted_user_sees_the_end_of_the_mute(
    new_user: NewUser, moderated: tuple[Server, Outside], room: str
) -> None:
    server, outside = moderated
    alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
    bob_id = own_id(bob)
    outside(lambda publisher: publisher.mute(bob_id, app.ROOM_PREFIX + room, seconds=3600))
    send_message(bob, "may I?")
    error = bob.locator("#composer-error")
    expect(error).to_have_text(re.compile("^You are muted " + LOCAL_TIME.pattern + "$"))
    expect(bob.locator("#pending .message")).to_contain_text("Not sent")
    outside(lambda publisher: publisher.unmute(bob_id, app.ROOM_PREFIX + room))
    bob.get_by_role("button", name="Send again").click()
    for page in (alice, bob):
        expect_messages(page, "may I?")


# --- path prefix


def test_the_pages_work_below_a_path_prefix(
    new_window: NewWindow, serve: Callable[..., Server], room: str
) -> None:
    server = serve(APP_ROOT_PATH="/a/chat")
    window = new_window(at=server)
    requested: list[str] = []
    window.on("request", lambda request: requested.append(request.url))
    page = window.new_page()
    page.goto(f"/a/chat/#{room}")
    with page.expect_websocket() as opened:
        sign_in(page, "Alice")
    assert opened.value.url.startswith(server.url.replace("http:", "ws:", 1) + "/a/chat/")
    send_message(page, "Hello")
    expect_messages(page, "Hello")
    page.reload()
    expect_connected(page)
    page.goto("/a/chat/docs")
    expect(page.get_by_role("article").first).to_be_visible()
    expect(page.get_by_text("You are signed in as Alice.")).to_be_visible()
    page.get_by_role("banner").get_by_role("link").first.click()
    expect_connected(page)
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("textbox", name="Your name")).to_be_visible()
    assert [url for url in requested if not url.startswith(f"{server.url}/a/chat/")] == []
