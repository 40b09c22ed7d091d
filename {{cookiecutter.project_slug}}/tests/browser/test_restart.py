"""The service goes away and comes back, and the page tells its people and reconnects by itself."""

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
    WAIT_SECONDS,
    composer,
    expect_connected,
    expect_heard,
    notes,
    own_messages,
    people,
    say,
    stop_clock,
)

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import Complaints, NewPerson

# No system gives these to whoever asks for any port, so this one is still free after a restart.
PORTS = range(20_000, 30_000)


@pytest.fixture
def port() -> int:
    """A free port that nobody is given by chance."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports are taken")


def end(server: Server, with_signal: signal.Signals) -> None:
    """Send the service a signal, and wait until the process has ended."""
    server.process.send_signal(with_signal)
    server.process.wait(WAIT_SECONDS)


def expect_waiting(page: Page) -> None:
    """Expect the page to say what happened, and when it tries again."""
    status = page.locator("#connection")
    expect(status).to_have_attribute("data-state", "waiting")
    expect(status.locator("#countdown")).to_have_text(re.compile(r"^Next try in \d+ s$"))
    expect(status.get_by_role("button", name="Try now")).to_be_visible()
    expect(people(page)).to_have_count(0)


@pytest.mark.parametrize(
    "with_signal", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name
)
def test_a_restart_is_told_and_what_was_written_meanwhile_is_sent(
    new_person: NewPerson,
    serve: Callable[..., Server],
    complaints: Complaints,
    port: int,
    with_signal: signal.Signals,
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    server = serve(APP_PORT=str(port))
    alice, bob = new_person("Alice", at=server), new_person("Bob", at=server)
    say(alice, "before")
    composer(bob).press_sequentially("Well")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")

    end(server, with_signal)
    for page in (alice, bob):
        expect_waiting(page)
    expect(alice.locator("#typing")).to_be_empty()
    say(alice, "meanwhile")
    waiting = alice.get_by_role("list", name="Your messages on their way")
    expect(waiting).to_contain_text("meanwhile")
    expect(waiting).to_contain_text("Waits for the connection")
    expect(own_messages(alice)).to_have_count(1)

    serve(APP_PORT=str(port))
    expect_connected(alice)
    expect_heard(alice, "before", "meanwhile")
    expect(waiting).to_be_hidden()
    expect(notes(alice).filter(has_text="Some messages are missing here")).to_have_count(1)
    expect_connected(bob)
    for page in (alice, bob):
        expect(people(page)).to_have_count(2)
    say(bob, "after")
    expect(alice.locator("#messages .message .text").last).to_have_text("after")
    say(alice, "all of us")
    expect(bob.locator("#messages .message .text").last).to_have_text("all of us")
    expect(alice.locator("#countdown")).to_be_empty()
    expect(alice.get_by_role("button", name="Try now")).to_be_hidden()


def tell_from_outside(url: str, room: str, *told: Message) -> None:
    """Tell a room something through the engine alone."""

    def tell() -> None:
        with Publisher(url, prefix=app.__name__.partition(".")[0]) as publisher:
            for message in told:
                publisher.broadcast_to_room(app.ROOM_PREFIX + room, message)

    with ThreadPoolExecutor() as threads:  # Playwright has an event loop in this one.
        threads.submit(tell).result(WAIT_SECONDS)


def test_what_was_said_while_the_service_was_away_is_shown_once(
    new_person: NewPerson,
    serve: Callable[..., Server],
    complaints: Complaints,
    port: int,
    room: str,
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    with running_valkey() as engine:
        variables = {
            "APP_PORT": str(port),
            "APP_BACKEND_URL": engine.url,
            "APP_PRESENCE_HEARTBEAT_SECONDS": "1",
        }
        server = serve(**variables)
        alice, bob = new_person("Alice", at=server), new_person("Bob", at=server)
        say(alice, "before")
        expect_heard(bob, "before")
        lines = notes(alice).count()
        end(server, signal.SIGKILL)
        said = [messages.ServerNewMessage(user="Zoe", text=text) for text in ("one", "two")]
        tell_from_outside(engine.url, room, *said)
        for page in (alice, bob):
            expect_waiting(page)
        serve(**variables)
        for page in (alice, bob):
            expect_connected(page)
            expect_heard(page, "before", "one", "two")
        say(bob, "after")
        for page in (alice, bob):
            expect_heard(page, "before", "one", "two", "after")
        assert notes(alice).count() == lines


def test_a_person_does_not_have_to_wait_for_the_next_try(
    new_person: NewPerson, serve: Callable[..., Server], complaints: Complaints, port: int
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    server = serve(APP_PORT=str(port))
    alice = new_person("Alice", at=server)
    # Full jitter draws each wait from nothing to its bound, and time stands still between two tries.
    alice.evaluate("() => { Math.random = () => 0.99; }")
    stop_clock(alice)
    end(server, signal.SIGTERM)
    expect(alice.locator("#connection-text")).to_have_text("The server restarts.")
    expect(alice.locator("#countdown")).to_have_text("Next try in 1 s")
    expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
    server = serve(APP_PORT=str(port))
    expect(alice.locator("#connection")).to_have_attribute("data-state", "waiting")
    alice.get_by_role("button", name="Try now").click()
    expect_connected(alice)
    expect(composer(alice)).to_be_focused()
    end(server, signal.SIGKILL)
    expect(alice.locator("#connection-text")).to_have_text("Connection lost.")
