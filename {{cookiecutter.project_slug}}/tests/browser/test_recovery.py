"""Recovery: of missed messages after a lost connection, and after the service has lost its history."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from falcon_pachinko.publisher import Publisher

from {{ cookiecutter.package_name }} import messages

from ..valkey import running_valkey
from .pages import (
    LOST_CONNECTION,
    composer,
    expect_connected,
    expect_messages,
    notes,
    own_id,
    people,
    send_message,
)
from .relay import relay_to
from .test_restart import expect_waiting, publish_from_outside

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, PageErrors

MISSING = "Some messages are missing here: the server no longer has them."

WAIT_SECONDS = 15.0

# Longer than any test, so that a disconnected user does not leave.
LONG_GRACE_SECONDS = "300"


def welcome(name: str, room: str) -> str:
    return f"Welcome {name} to room '{room}'!"


def disconnect_from_outside(url: str, user_id: str) -> None:
    """Close all connections of a user from another process."""
    with Publisher(url, prefix=messages.__name__.partition(".")[0]) as publisher:
        publisher.disconnect_user(user_id, 4403)


def expect_notes(page: Page, *expected: str) -> None:
    """Wait until the log has exactly these notes."""
    expect(notes(page)).to_have_text(list(expected))


def times(page: Page) -> list[str]:
    """Return when the messages were sent, as the page shows it."""
    shown = page.get_by_role("log").locator(".message time")
    found: list[str] = shown.evaluate_all("(nodes) => nodes.map((node) => node.dateTime)")
    return found


def test_missed_messages_are_shown_once_and_in_order(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        queries: list[dict[str, list[str]]] = []
        alice.on("websocket", lambda socket: queries.append(parse_qs(urlsplit(socket.url).query)))
        send_message(bob, "before")
        for page in (alice, bob):
            expect_messages(page, "before")
        pending = alice.get_by_role("list", name="Your unconfirmed messages")

        relay.mute()
        send_message(alice, "sent without an answer")
        expect_messages(bob, "before", "sent without an answer")
        expect(pending).to_contain_text("Sending…")
        relay.cut()
        expect_waiting(alice)
        expect(pending).to_contain_text("Waiting for the connection")
        send_message(bob, "one")
        send_message(bob, "two")
        composer(bob).press_sequentially("Well")
        received = ["before", "sent without an answer", "one", "two"]
        expect_messages(bob, *received)
        send_message(alice, "queued")
        relay.restore()

        expect_connected(alice)
        for page in (alice, bob):
            expect_messages(page, *received, "queued")
            expect(people(page)).to_have_count(2)
        expect(pending).to_be_hidden()
        assert times(alice) == times(bob)
        expect_notes(alice, welcome("Alice", room), "Bob joined")
        assert {"since", "connection"} < queries[-1].keys()
        send_message(bob, "after")
        for page in (alice, bob):
            expect_messages(page, *received, "queued", "after")
        expect_notes(bob, welcome("Bob", room))


def test_people_are_greyed_out_while_the_connection_is_lost(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PRESENCE_GRACE_SECONDS="0.2")
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        names = people(alice).locator("bdi")
        expect(names).to_have_text(["Alice", "Bob"])
        colour = names.last.evaluate("(name) => getComputedStyle(name).color")
        relay.cut()
        expect_waiting(alice)
        expect(names).to_have_text(["Alice", "Bob"])
        expect(alice.locator("#people-count")).to_have_text("2")
        expect(names.last).not_to_have_css("color", colour)
        new_user("Carol", at=server)
        bob.close()
        relay.restore()
        expect_connected(alice)
        expect(names).to_have_text(["Alice", "Carol"])
        expect(names.last).to_have_css("color", colour)


def test_a_silent_connection_is_replaced_when_the_network_is_online_again(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        send_message(bob, "before")
        expect_messages(alice, "before")
        relay.silence()
        send_message(bob, "missed")
        expect_messages(bob, "before", "missed")
        with alice.expect_websocket() as replacement:
            alice.evaluate("() => { dispatchEvent(new Event('online')); }")
            send_message(alice, "written meanwhile")
        assert "since=" in replacement.value.url
        expect_connected(alice)
        for page in (alice, bob):
            expect_messages(page, "before", "missed", "written meanwhile")
        expect_notes(alice, welcome("Alice", room), "Bob joined")


def test_a_reload_within_the_grace_period_is_not_announced(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    server = serve(APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
    expect_notes(alice, welcome("Alice", room), "Bob joined")
    bob.reload()
    expect_connected(bob)
    send_message(bob, "Here again")
    expect_messages(alice, "Here again")
    expect(people(alice)).to_have_count(2)
    expect(people(bob)).to_have_count(2)
    expect_notes(alice, welcome("Alice", room), "Bob joined")


def test_a_gap_in_the_history_is_reported(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(
        APP_DATABASE_URL="none",
        APP_HISTORY_MESSAGES="2",
        APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS,
    )
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        send_message(bob, "before")
        expect_messages(alice, "before")
        relay.cut()
        expect_waiting(alice)
        for text in ("one", "two", "three"):
            send_message(bob, text)
        expect_messages(bob, "before", "one", "two", "three")
        relay.restore()
        expect_connected(alice)
        expected = [welcome("Alice", room), "Bob joined", MISSING]
        expect_notes(alice, *expected)
        send_message(bob, "after")
        expect_messages(alice, "before", "after")

        # The messages received since then can be recovered again.
        relay.cut()
        expect_waiting(alice)
        send_message(bob, "four")
        expect_messages(bob, "before", "one", "two", "three", "after", "four")
        relay.restore()
        expect_connected(alice)
        expect_messages(alice, "before", "after", "four")
        expect_notes(alice, *expected)


def test_pages_reconnect_after_the_service_has_lost_its_history(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as valkey:
        server = serve(
            APP_DATABASE_URL="none",
            APP_BACKEND_URL=valkey.url,
            APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS,
        )
        alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
        send_message(alice, "before")
        for page in (alice, bob):
            expect_messages(page, "before")
        with alice.expect_websocket() as of_alice, bob.expect_websocket() as of_bob:
            valkey.restart()  # Without persistence.
        for connection in (of_alice, of_bob):
            assert "since=" in connection.value.url
        for page in (alice, bob):
            expect_connected(page)
            expect(people(page)).to_have_count(2)
        send_message(bob, "after")
        for page in (alice, bob):
            expect_messages(page, "before", "after")
        expect_notes(alice, welcome("Alice", room), "Bob joined", MISSING)
        expect_notes(bob, welcome("Bob", room), MISSING)


def test_redundant_presence_events_are_ignored(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as valkey:
        server = serve(APP_BACKEND_URL=valkey.url)
        alice = new_user("Alice", at=server)
        publish_from_outside(
            valkey.url,
            room,
            messages.ServerUserJoined(user="Zoe", user_id="Zoe"),
            messages.ServerUserJoined(user="Zoe", user_id="Zoe"),
            messages.ServerUserJoined(user="Alice", user_id="Alice"),
            messages.ServerUserLeft(user="Yan", user_id="Yan"),
            messages.ServerUserLeft(user="Zoe", user_id="Zoe"),
            messages.ServerUserLeft(user="Zoe", user_id="Zoe"),
            messages.ServerNewMessage(user="Zoe", user_id="Zoe", text="the last one"),
        )
        expect_messages(alice, "the last one")
        expect_notes(alice, welcome("Alice", room), "Zoe joined and left")
        expect(people(alice).locator("bdi")).to_have_text(["Alice"])


def test_a_user_who_left_rejoins_after_reconnecting(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, room: str
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PRESENCE_GRACE_SECONDS="0.2")
    with relay_to(server.url) as relay:
        alice, bob = new_user("Alice", at=relay), new_user("Bob", at=server)
        send_message(bob, "before")
        expect_messages(alice, "before")
        relay.cut()
        expect_notes(bob, welcome("Bob", room), "Alice left")
        send_message(bob, "missed")
        expect_messages(bob, "before", "missed")
        relay.restore()
        expect_connected(alice)
        expect_messages(alice, "before", "missed")
        for page in (alice, bob):
            expect(people(page)).to_have_count(2)
        expect_notes(alice, welcome("Alice", room), "Bob joined")
        expect_notes(bob, welcome("Bob", room), "Alice left", "Alice joined")


def test_a_disconnected_user_who_connects_again_sees_a_gap_notice(
    new_user: NewUser, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as valkey:
        server = serve(APP_DATABASE_URL="none", APP_BACKEND_URL=valkey.url)
        alice = new_user("Alice", at=server)
        send_message(alice, "before")
        expect_messages(alice, "before")
        with ThreadPoolExecutor() as threads:  # This thread runs Playwright's event loop.
            threads.submit(disconnect_from_outside, valkey.url, own_id(alice)).result(WAIT_SECONDS)
        expect(alice.get_by_role("list", name="Last seen here")).to_contain_text("Alice")
        alice.get_by_role("button", name="Connect again").click()
        expect_connected(alice)
        expect_notes(
            alice,
            welcome("Alice", room),
            "You may not enter this room.",
            welcome("Alice", room),
            "Reconnected. Messages sent in the meantime are not shown here.",
        )
