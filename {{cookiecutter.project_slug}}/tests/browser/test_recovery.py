"""The page loses its line, or the service its memory; the conversation goes on with nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from falcon_pachinko.publisher import Publisher

from {{ cookiecutter.package_name }} import messages

from ..valkey import running_valkey
from .line import line_to
from .pages import composer, expect_connected, expect_heard, notes, people, say
from .test_restart import expect_waiting, tell_from_outside

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import Complaints, NewPerson

MISSING = "Some messages are missing here: they are not kept any more."

WAIT_SECONDS = 15.0

# No test takes so long: who is away is not gone.
LONG_GRACE_SECONDS = "300"


def welcome(name: str, room: str) -> str:
    return f"Welcome {name} to room '{room}'!"


def send_away(url: str, user: str) -> None:
    """Close all connections of a user, from outside."""
    with Publisher(url, prefix=messages.__name__.partition(".")[0]) as publisher:
        publisher.disconnect_user(user, 4403)


def expect_noted(page: Page, *noted: str) -> None:
    """Wait until these notes are in the log, and no others."""
    expect(notes(page)).to_have_text(list(noted))


def test_who_lost_the_line_is_shown_once_and_in_order_what_was_said(
    new_person: NewPerson, serve: Callable[..., Server], complaints: Complaints, room: str
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    server = serve(APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    with line_to(server.url) as line:
        alice, bob = new_person("Alice", at=line), new_person("Bob", at=server)
        queries: list[dict[str, list[str]]] = []
        alice.on("websocket", lambda socket: queries.append(parse_qs(urlsplit(socket.url).query)))
        say(bob, "before")
        for page in (alice, bob):
            expect_heard(page, "before")
        pending = alice.get_by_role("list", name="Your messages on their way")

        line.deafen()
        say(alice, "You hear me, I do not")
        expect_heard(bob, "before", "You hear me, I do not")
        expect(pending).to_contain_text("Sending…")
        line.cut()
        expect_waiting(alice)
        expect(pending).to_contain_text("Perhaps not delivered")
        say(bob, "one")
        say(bob, "two")
        composer(bob).press_sequentially("Well")
        said = ["before", "You hear me, I do not", "one", "two"]
        expect_heard(bob, *said)
        say(alice, "What was that?")
        line.mend()

        expect_connected(alice)
        for page in (alice, bob):
            expect_heard(page, *said, "What was that?")
            expect(people(page)).to_have_count(2)
        expect(pending).to_be_hidden()
        expect_noted(alice, welcome("Alice", room), "Bob joined")
        assert queries[-1].keys() == {"since", "connection"}
        say(bob, "after")
        for page in (alice, bob):
            expect_heard(page, *said, "What was that?", "after")
        expect_noted(bob, welcome("Bob", room))


def test_a_reload_in_time_is_silent(
    new_person: NewPerson, serve: Callable[..., Server], room: str
) -> None:
    server = serve(APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    alice, bob = new_person("Alice", at=server), new_person("Bob", at=server)
    expect_noted(alice, welcome("Alice", room), "Bob joined")
    bob.reload()
    expect_connected(bob)
    say(bob, "Here again")
    expect_heard(alice, "Here again")
    expect(people(alice)).to_have_count(2)
    expect(people(bob)).to_have_count(2)
    expect_noted(alice, welcome("Alice", room), "Bob joined")


def test_who_was_away_for_too_long_is_told_so(
    new_person: NewPerson, serve: Callable[..., Server], complaints: Complaints, room: str
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    server = serve(APP_HISTORY_MESSAGES="2", APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
    with line_to(server.url) as line:
        alice, bob = new_person("Alice", at=line), new_person("Bob", at=server)
        say(bob, "before")
        expect_heard(alice, "before")
        line.cut()
        expect_waiting(alice)
        for text in ("one", "two", "three"):
            say(bob, text)
        expect_heard(bob, "before", "one", "two", "three")
        line.mend()
        expect_connected(alice)
        noted = [welcome("Alice", room), "Bob joined", MISSING]
        expect_noted(alice, *noted)
        say(bob, "after")
        expect_heard(alice, "before", "after")

        # What came since is a place to come back to.
        line.cut()
        expect_waiting(alice)
        say(bob, "four")
        expect_heard(bob, "before", "one", "two", "three", "after", "four")
        line.mend()
        expect_connected(alice)
        expect_heard(alice, "before", "after", "four")
        expect_noted(alice, *noted)


def test_a_page_connects_anew_by_itself_where_the_service_has_lost_something(
    new_person: NewPerson, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as engine:
        server = serve(APP_BACKEND_URL=engine.url, APP_PRESENCE_GRACE_SECONDS=LONG_GRACE_SECONDS)
        alice, bob = new_person("Alice", at=server), new_person("Bob", at=server)
        say(alice, "before")
        for page in (alice, bob):
            expect_heard(page, "before")
            # Each page draws its wait for itself: a tenth of the longest.
            page.evaluate("() => { Math.random = () => 0.1; }")
        with alice.expect_websocket() as of_alice, bob.expect_websocket() as of_bob:
            engine.restart()  # It keeps nothing.
        for connection in (of_alice, of_bob):
            assert "since=" in connection.value.url
        for page in (alice, bob):
            expect_connected(page)
            expect(people(page)).to_have_count(2)
        say(bob, "after")
        for page in (alice, bob):
            expect_heard(page, "before", "after")
        expect_noted(alice, welcome("Alice", room), "Bob joined", MISSING)
        expect_noted(bob, welcome("Bob", room), MISSING)


def test_who_is_here_does_not_come_and_who_is_not_does_not_go(
    new_person: NewPerson, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as engine:
        server = serve(APP_BACKEND_URL=engine.url)
        alice = new_person("Alice", at=server)
        tell_from_outside(
            engine.url,
            room,
            messages.ServerUserJoined(user="Zoe"),
            messages.ServerUserJoined(user="Zoe"),
            messages.ServerUserJoined(user="Alice"),
            messages.ServerUserLeft(user="Yan"),
            messages.ServerUserLeft(user="Zoe"),
            messages.ServerUserLeft(user="Zoe"),
            messages.ServerNewMessage(user="Zoe", text="the last one"),
        )
        expect_heard(alice, "the last one")
        expect_noted(alice, welcome("Alice", room), "Zoe joined", "Zoe left")
        expect(people(alice).locator("bdi")).to_have_text(["Alice"])


def test_who_has_gone_for_the_others_comes_back_to_all_of_them(
    new_person: NewPerson, serve: Callable[..., Server], complaints: Complaints, room: str
) -> None:
    complaints.allow(r"WebSocket connection to 'ws://127.0.0.1:\d+/\S+' failed: ")
    server = serve(APP_PRESENCE_GRACE_SECONDS="0.2")
    with line_to(server.url) as line:
        alice, bob = new_person("Alice", at=line), new_person("Bob", at=server)
        say(bob, "before")
        expect_heard(alice, "before")
        line.cut()
        expect_noted(bob, welcome("Bob", room), "Alice left")
        say(bob, "missed")
        line.mend()
        expect_connected(alice)
        expect_heard(alice, "before", "missed")
        for page in (alice, bob):
            expect(people(page)).to_have_count(2)
        expect_noted(alice, welcome("Alice", room), "Bob joined")
        expect_noted(bob, welcome("Bob", room), "Alice left", "Alice joined")


def test_who_was_sent_away_and_connects_again_is_told_that_something_may_be_missing(
    new_person: NewPerson, serve: Callable[..., Server], room: str
) -> None:
    with running_valkey() as engine:
        server = serve(APP_BACKEND_URL=engine.url)
        alice = new_person("Alice", at=server)
        say(alice, "before")
        expect_heard(alice, "before")
        with ThreadPoolExecutor() as elsewhere:  # where no event loop runs
            elsewhere.submit(send_away, engine.url, "Alice").result(WAIT_SECONDS)
        alice.get_by_role("button", name="Connect again").click()
        expect_connected(alice)
        expect_noted(
            alice,
            welcome("Alice", room),
            "You may not enter this room.",
            "Connected again. What was written meanwhile is not shown here.",
            welcome("Alice", room),
        )
