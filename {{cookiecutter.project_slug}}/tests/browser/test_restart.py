"""Restarts of the service: the page shows the status and reconnects."""

from __future__ import annotations

import random
import re
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from falcon_pachinko import Message
from falcon_pachinko.publisher import Publisher

from {{ cookiecutter.package_name }} import app, messages

from ..valkey import running_valkey
from .pages import (
    LOST_CONNECTION,
    WAIT_SECONDS,
    composer,
    expect_connected,
    expect_messages,
    notes,
    own_messages,
    people,
    send_message,
    stop_clock,
)

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewUser, PageErrors

# Below the ephemeral ports of all systems: a port from here is still free after a restart.
PORTS = range(20_000, 30_000)

# `ONCE_MS` in `chat/main.js`.
ONCE_MS = 300_000


@pytest.fixture
def port() -> int:
    """A free port that the system does not assign."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports are in use")


def stop_service(server: Server, with_signal: signal.Signals) -> None:
    """Send the service a signal and wait for its process to exit."""
    server.process.send_signal(with_signal)
    server.process.wait(WAIT_SECONDS)


def expect_waiting(page: Page) -> None:
    """Expect the page to show the lost connection and the time of the next attempt."""
    status = page.locator("#connection")
    expect(status).to_have_attribute("data-state", "waiting")
    expect(status.locator("#countdown")).to_have_text(re.compile(r"^Next try in \d+ s$"))
    expect(status.get_by_role("button", name="Try now")).to_be_visible()
    expect(page.get_by_role("list", name="Last seen here")).to_be_visible()


@pytest.mark.parametrize(
    "with_signal", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name
)
def test_messages_written_during_a_restart_are_sent_afterwards(
    new_user: NewUser,
    serve: Callable[..., Server],
    page_errors: PageErrors,
    port: int,
    with_signal: signal.Signals,
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PORT=str(port))
    alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
    send_message(alice, "before")
    expect_messages(alice, "before")
    composer(bob).press_sequentially("Well")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    note_counts = {page: notes(page).count() for page in (alice, bob)}

    stop_service(server, with_signal)
    for page in (alice, bob):
        expect_waiting(page)
    expect(alice.locator("#typing")).to_be_empty()
    send_message(alice, "meanwhile")
    waiting = alice.get_by_role("list", name="Your unconfirmed messages")
    expect(waiting).to_contain_text("meanwhile")
    expect(waiting).to_contain_text("Waiting for the connection")
    expect(own_messages(alice)).to_have_count(1)

    serve(APP_PORT=str(port))
    expect_connected(alice)
    expect_messages(alice, "before", "meanwhile")
    expect(waiting).to_be_hidden()
    expect_connected(bob)
    for page in (alice, bob):
        expect(people(page)).to_have_count(2)
    send_message(bob, "after")
    expect(alice.locator("#messages .message .text").last).to_have_text("after")
    send_message(alice, "all of us")
    expect(bob.locator("#messages .message .text").last).to_have_text("all of us")
    for page in (alice, bob):
        expect_messages(page, "before", "meanwhile", "after", "all of us")
        # Neither of joins, nor of missing messages.
        expect(notes(page)).to_have_count(note_counts[page])
    expect(alice.locator("#countdown")).to_be_empty()
    expect(alice.get_by_role("button", name="Try now")).to_be_hidden()


def test_messages_that_may_have_arrived_are_reported_when_the_room_changes(
    new_user: NewUser, serve: Callable[..., Server]
) -> None:
    server = serve()
    alice = new_user("Alice", at=server)
    server.process.send_signal(signal.SIGSTOP)
    try:
        for text in ("one", "two"):
            send_message(alice, text)
        expect(alice.locator("#pending")).to_contain_text("Sending…")
        alice.evaluate("() => { location.hash = '#elsewhere'; }")
        lost = re.compile(r"^2 messages to '.+' may not have been sent\.$")
        expect(notes(alice).filter(has_text=lost)).to_have_count(1)
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("variables", "state"),
    [({}, "Sending…"), ({"APP_DATABASE_URL": "none"}, "Possibly not delivered")],
    ids=["with a store", "without a store"],
)
def test_a_message_is_under_way_as_long_as_the_service_would_recognise_it(
    new_user: NewUser, serve: Callable[..., Server], variables: dict[str, str], state: str
) -> None:
    server = serve(**variables)
    alice = new_user("Alice", at=server)
    send_message(alice, "before")
    expect_messages(alice, "before")
    alice.clock.install()
    server.process.send_signal(signal.SIGSTOP)
    try:
        send_message(alice, "one")
        pending = alice.locator("#pending")
        expect(pending).to_contain_text("Sending…")
        alice.clock.fast_forward(ONCE_MS)
        expect(pending).to_contain_text(state)
    finally:
        server.process.send_signal(signal.SIGCONT)
    # It was delivered all the same.
    expect_messages(alice, "before", "one")
    expect(pending).to_be_hidden()


def publish_from_outside(url: str, room: str, *published: Message) -> None:
    """Publish messages to a room through Redis, without the service."""

    def publish() -> None:
        with Publisher(url, prefix=app.__name__.partition(".")[0]) as publisher:
            for message in published:
                publisher.broadcast_to_room(app.ROOM_PREFIX + room, message)

    with ThreadPoolExecutor() as threads:  # This thread runs Playwright's event loop.
        threads.submit(publish).result(WAIT_SECONDS)


def test_messages_published_during_a_restart_are_shown_once(
    new_user: NewUser,
    serve: Callable[..., Server],
    page_errors: PageErrors,
    port: int,
    room: str,
) -> None:
    page_errors.allow(LOST_CONNECTION)
    with running_valkey() as valkey:
        variables = {
            "APP_PORT": str(port),
            "APP_BACKEND_URL": valkey.url,
        }
        server = serve(**variables)
        alice, bob = new_user("Alice", at=server), new_user("Bob", at=server)
        send_message(alice, "before")
        expect_messages(bob, "before")
        note_count = notes(alice).count()
        stop_service(server, signal.SIGKILL)
        missed = [
            messages.ServerNewMessage(user="Zoe", user_id="Zoe", text=text)
            for text in ("one", "two")
        ]
        publish_from_outside(valkey.url, room, *missed)
        for page in (alice, bob):
            expect_waiting(page)
        serve(**variables)
        for page in (alice, bob):
            expect_connected(page)
            expect_messages(page, "before", "one", "two")
        send_message(bob, "after")
        for page in (alice, bob):
            expect_messages(page, "before", "one", "two", "after")
        assert notes(alice).count() == note_count


def test_a_user_can_retry_at_once(
    new_user: NewUser, serve: Callable[..., Server], page_errors: PageErrors, port: int
) -> None:
    page_errors.allow(LOST_CONNECTION)
    server = serve(APP_PORT=str(port))
    alice = new_user("Alice", at=server)
    # Full jitter makes each delay random; the stopped clock prevents a second attempt.
    alice.evaluate("() => { Math.random = () => 0.99; }")
    stop_clock(alice)
    stop_service(server, signal.SIGTERM)
    expect(alice.locator("#connection-text")).to_have_text("The server is restarting.")
    expect(alice.locator("#countdown")).to_have_text("Next try in 1 s")
    expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
    server = serve(APP_PORT=str(port))
    expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
    alice.get_by_role("button", name="Try now").click()
    expect_connected(alice)
    expect(composer(alice)).to_be_focused()
    stop_service(server, signal.SIGKILL)
    expect(alice.locator("#connection-text")).to_have_text("Connection lost.")
    # The focus does not vanish with the button when the page tries by itself.
    alice.get_by_role("button", name="Try now").focus()
    alice.evaluate("() => { dispatchEvent(new Event('online')); }")
    expect(alice.get_by_role("region", name="Conversation")).to_be_focused()
