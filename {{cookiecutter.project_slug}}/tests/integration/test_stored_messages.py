"""Stored messages inside the test process: their ids, an outage of the database, their retention."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from falcon_pachinko.messages import ServerError
from falcon_pachinko.testing import Running
from falcon_pachinko.testing.fixtures import OpenClient, RunApp, ServeApp

from {{ cookiecutter.package_name }} import (
    app,
    database,
    transactions,
    workers,
)
from {{ cookiecutter.package_name }} import store as store_module
from {{ cookiecutter.package_name }}.message_ids import time_ms
from {{ cookiecutter.package_name }}.messages import (
    LoadHistory,
    PastMessage,
    SendMessage,
    ServerHistory,
    ServerNewMessage,
)
from {{ cookiecutter.package_name }}.records import NewMessage
from {{ cookiecutter.package_name }}.store import MessageStore

if TYPE_CHECKING:
    from ..conftest import HeadersOf, Join, MakeSettings

pytestmark = pytest.mark.slow

WAIT_SECONDS = 20.0
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
async def chat(
    run_app: RunApp, make_settings: MakeSettings, url: str, monkeypatch: pytest.MonkeyPatch
) -> Running:
    """The service with a store."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    return await run_app(app.create_app(make_settings(database_url=url)))


@pytest.fixture
def locked(tmp_path: Path, chat: Running) -> Iterator[sqlite3.Connection]:
    """A transaction of another program, during which the service cannot write."""
    with contextlib.closing(sqlite3.connect(tmp_path / "messages.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def stored_texts(url: str, room: str) -> list[str]:
    store = MessageStore(url)
    await store.open()
    page = await store.page(app.ROOM_PREFIX + room)
    await store.aclose()
    return [each.text for each in page]


@pytest.mark.parametrize("case", ["stored", "deleted", "of another user", "of another room"])
async def test_a_message_that_arrives_again_is_the_one_that_is_stored(
    chat: Running,
    open_client: OpenClient,
    headers_of: HeadersOf,
    websocket_path: str,
    url: str,
    room: str,
    case: str,
) -> None:
    name, client_id = app.ROOM_PREFIX + room, "0123456789abcdef" * 2
    user = "Bob" if case == "of another user" else "Alice"
    message = NewMessage(
        room="other" if case == "of another room" else name,
        user_id=user,
        user_name=user,
        text="first",
    )
    store = MessageStore(url)
    await store.open()
    stored = await store.add(message, client_id, "1")
    if case == "deleted":
        await store.delete(name, stored.id)
    await store.aclose()
    path = f"{websocket_path}/{room}?client={client_id}"
    alice = await open_client(chat, path, headers=headers_of("Alice"))
    await alice.receive_until("serverPosition")
    await alice.send({"type": "clientSendMessage", "payload": {"text": "again"}, "ref": "1"})
    answer = await alice.receive()
    if case == "stored":
        sent = {"user": "Alice", "userId": "Alice", "text": "first", "messageId": stored.id}
        assert answer["payload"] == sent
        answer = await alice.receive()
    if case in ("stored", "deleted"):
        assert answer == {"type": "serverAck", "payload": {}, "ref": "1"}
    else:
        assert (answer["payload"]["code"], answer["ref"]) == ("refUsed", "1")
    assert "again" not in await stored_texts(url, room)


async def test_a_message_has_the_id_under_which_it_is_stored(
    join: Join, url: str, room: str
) -> None:
    alice = await join("Alice")
    await alice.send("clientSendMessage", SendMessage(text="Hello\0 😀"))
    sent = await alice.receive(ServerNewMessage)
    store = MessageStore(url)
    await store.open()
    [stored] = await store.page(app.ROOM_PREFIX + room)
    await store.aclose()
    assert (stored.id, stored.text) == (sent.message_id, "Hello\0 😀")
    assert (stored.user_id, stored.user_name) == ("Alice", "Alice")
    assert abs(time_ms() - stored.sent_at) < 60_000


async def test_the_past_is_read_page_by_page(join: Join, url: str) -> None:
    alice = await join("Alice")
    texts = [str(number) for number in range(120)]
    for text in texts:
        await alice.send("clientSendMessage", SendMessage(text=text))
    sent = [await alice.receive(ServerNewMessage) for _ in texts]
    bob = await join("Bob")
    payload, found = LoadHistory(), list[PastMessage]()
    for count, has_more in ((50, True), (50, True), (20, False)):
        await bob.send("clientLoadHistory", payload)
        [*_, page] = await bob.receive_until(ServerHistory)
        assert (len(page.messages), page.has_more) == (count, has_more)
        found = [*page.messages, *found]
        payload = LoadHistory(before=found[0].message_id)
    assert [each.text for each in found] == texts
    assert [each.message_id for each in found] == [each.message_id for each in sent]
    assert {(each.user, each.user_id) for each in found} == {("Alice", "Alice")}
    assert all(abs(time_ms() - each.at) < 60_000 for each in found)


async def test_a_page_has_no_deleted_message_and_none_of_another_room(
    join: Join, url: str, room: str
) -> None:
    alice, sent = await join("Alice"), []
    for text in ("one", "deleted", "three"):
        await alice.send("clientSendMessage", SendMessage(text=text))
        sent.append(await alice.receive(ServerNewMessage))
    store = MessageStore(url)
    await store.open()
    await store.delete(app.ROOM_PREFIX + room, str(sent[1].message_id))
    other = f"{app.ROOM_PREFIX}{room}-2"
    await store.add(NewMessage(room=other, user_id="u", user_name="U", text="elsewhere"))
    await store.aclose()
    for before in (msgspec.UNSET, "", "~"):
        await alice.send("clientLoadHistory", LoadHistory(before=before))
        [*_, page] = await alice.receive_until(ServerHistory)
        assert [each.text for each in page.messages] == ["one", "three"]


async def test_messages_of_one_client_keep_their_order(join: Join, url: str, room: str) -> None:
    alice = await join("Alice")
    texts = [str(number) for number in range(40)]
    for text in texts:
        await alice.send("clientSendMessage", SendMessage(text=text))
    sent = [await alice.receive(ServerNewMessage) for _ in texts]
    assert [each.text for each in sent] == texts
    ids = [each.message_id for each in sent]
    assert ids == sorted(ids, key=str)
    assert await stored_texts(url, room) == texts


async def test_a_message_that_cannot_be_stored_is_refused_and_not_sent(
    join: Join,
    url: str,
    room: str,
    locked: sqlite3.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice, bob = await join("Alice"), await join("Bob")
    for _ in range(3):
        await alice.send("clientSendMessage", SendMessage(text="lost"))
        error = (await alice.receive_until(ServerError))[-1]
        assert isinstance(error, ServerError)
        assert (error.code, error.error) == (
            "unavailable",
            "This cannot be done right now: try again.",
        )
    locked.rollback()
    await alice.send("clientSendMessage", SendMessage(text="kept"))
    for client in (alice, bob):
        received = (await client.receive_until(ServerNewMessage))[-1]
        assert isinstance(received, ServerNewMessage)
        assert received.text == "kept"
    assert await stored_texts(url, room) == ["kept"]
    records = [each for each in caplog.records if each.name == transactions.__name__]
    assert [each.getMessage() for each in records] == [
        "the database is unavailable (write): database is locked",
        "the database has recovered (write)",
    ]
    assert not any(each.exc_info for each in records)


class TestReadiness:
    @pytest.fixture
    async def chat(
        self,
        serve_app: ServeApp,
        make_settings: MakeSettings,
        url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Running:
        """The service on a port, with a store."""
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        return await serve_app(app.create_app(make_settings(database_url=url)))

    async def test_an_outage_of_the_database_is_shown_by_a_ready_service(
        self, chat: Running, join: Join, locked: sqlite3.Connection
    ) -> None:
        async with httpx.AsyncClient(base_url=chat.origin, trust_env=False) as client:
            alice = await join("Alice")
            await alice.send("clientSendMessage", SendMessage(text="lost"))
            await alice.receive_until(ServerError)
            response = await client.get("/ready")
            assert response.status_code == 200
            outage = {"outage": "database is locked"}
            assert response.json() == {"status": "ready", "database": outage}
            locked.rollback()
            await alice.send("clientSendMessage", SendMessage(text="kept"))
            await alice.receive_until(ServerNewMessage)
            assert (await client.get("/ready")).json() == {"status": "ready"}


class TestNone:
    @pytest.fixture
    def url(self) -> str:
        return "none"

    async def test_messages_without_a_store_have_no_id(self, join: Join, tmp_path: Path) -> None:
        alice = await join("Alice")
        await alice.send("clientSendMessage", SendMessage(text="Hello"))
        assert (await alice.receive(ServerNewMessage)).message_id is msgspec.UNSET
        assert os.listdir(tmp_path) == []

    async def test_there_is_no_past_without_a_store(self, join: Join) -> None:
        alice = await join("Alice")
        await alice.send("clientLoadHistory")
        [*_, error] = await alice.receive_until(ServerError)
        assert error.code == "notStored"


class TestRetention:
    @pytest.fixture
    async def store(self, url: str, monkeypatch: pytest.MonkeyPatch) -> MessageStore:
        """A store with messages of the last five days, several batches of each."""
        monkeypatch.setattr(workers, "REMOVED_AT_ONCE", 2)
        store = MessageStore(url)
        await store.open()
        for age_days in (5, 4, 3, 2, 1):
            sent_at = time_ms() - age_days * DAY_MS
            monkeypatch.setattr(store_module, "time_ms", lambda at=sent_at: at)
            for _ in range(3):
                text = f"{age_days} days old"
                await store.add(NewMessage(room="chat_a", user_id="u", user_name="U", text=text))
        monkeypatch.undo()
        monkeypatch.setattr(workers, "REMOVED_AT_ONCE", 2)
        return store

    async def test_only_old_messages_are_removed(self, store: MessageStore) -> None:
        await workers.remove_expired(store, retention_days=2.5)
        texts = [each.text for each in await store.page("chat_a")]
        assert texts == ["2 days old"] * 3 + ["1 days old"] * 3
        await store.aclose()

    async def test_an_outage_leaves_old_messages_for_later(
        self, store: MessageStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        await store.aclose()
        (tmp_path / "messages.db").unlink()
        await workers.remove_expired(store, retention_days=2.5)
        assert "old messages were not removed: the database is unavailable" in caplog.messages
        await store.aclose()

    async def test_the_worker_runs_with_the_application(
        self,
        store: MessageStore,
        url: str,
        run_app: RunApp,
        make_settings: MakeSettings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ran = asyncio.Event()
        remove_expired = workers.remove_expired

        async def remove(store: MessageStore, retention_days: float) -> None:
            await remove_expired(store, retention_days)
            ran.set()

        monkeypatch.setattr(workers, "remove_expired", remove)
        await run_app(app.create_app(make_settings(database_url=url, message_retention_days=2.5)))
        async with asyncio.timeout(WAIT_SECONDS):
            await ran.wait()
        assert len(await store.page("chat_a")) == 6
        await store.aclose()
