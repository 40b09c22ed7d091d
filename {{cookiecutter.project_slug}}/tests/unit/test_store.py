"""The store of messages, over SQLite and over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from {{ cookiecutter.package_name }} import database
from {{ cookiecutter.package_name }} import store as store_module
from {{ cookiecutter.package_name }}.message_ids import time_ms
from {{ cookiecutter.package_name }}.store import (
    MessageStore,
    StoreUnavailable,
)
from {{ cookiecutter.package_name }}.tables import NewMessage

from ..postgres import Postgres, running_postgres

WAIT_SECONDS = 20.0
END_OF_TIME_MS = 2**47
UNAVAILABLE = "This cannot be done right now: try again."


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def shared_url(postgres: Postgres) -> str:
    """The URL of a database of PostgreSQL."""
    return postgres.new_database()


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database; that of PostgreSQL may contain messages of other tests."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/messages.db"
    url: str = request.getfixturevalue("shared_url")
    return url


@pytest.fixture
async def store(url: str) -> AsyncIterator[MessageStore]:
    """An empty store."""
    store = MessageStore(url)
    async with asyncio.timeout(WAIT_SECONDS):
        await store.open()
        await store.remove_older_than(END_OF_TIME_MS)
        yield store
        await store.aclose()


@pytest.fixture
def commits(store: MessageStore) -> list[object]:
    """The transactions that have been committed since the start of the test."""
    commits: list[object] = []
    event.listen(store.engine.sync_engine, "commit", commits.append)
    return commits


def message(text: str, room: str = "chat_a", user: str = "alice") -> NewMessage:
    return NewMessage(room=room, user_id=user, user_name=user.title(), text=text)


async def test_a_stored_message_is_read_as_it_was_written(store: MessageStore, url: str) -> None:
    before_ms = time_ms()
    first = await store.add(message("Hello 😀"), "client", "r1")
    assert before_ms <= first.sent_at <= time_ms()
    assert (first.client_id, first.ref, first.existed) == ("client", "r1", False)
    answer = NewMessage(room="chat_a", user_id="bob", user_name="Bob", text="Hi", reply_to=first.id)
    second = await store.add(answer)
    other = MessageStore(url)
    await other.open()
    assert await other.page("chat_a") == [first, second]
    assert await other.get(second.id) == second
    await other.aclose()


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ufdd0", "\ufdd00\0\ufdd01", "\U0010ffff", "x" * 2000, "'); --"]
)
async def test_every_text_is_stored_without_a_loss(store: MessageStore, text: str) -> None:
    stored = await store.add(message(text), f"client{text}", text)
    assert await store.get(stored.id) == stored
    assert stored.text == text
    assert (await store.add(message("other"), f"client{text}", text)).id == stored.id


async def test_a_lone_surrogate_is_refused_without_harm_to_other_messages(
    store: MessageStore,
) -> None:
    good, bad = await asyncio.gather(
        store.add(message("good")), store.add(message("\ud83d")), return_exceptions=True
    )
    assert isinstance(bad, ValueError)
    assert [each.id for each in await store.page("chat_a")] == [getattr(good, "id", "")]


async def test_ids_have_the_order_of_the_messages(store: MessageStore) -> None:
    added = await asyncio.gather(*(store.add(message(str(number))) for number in range(200)))
    ids = [each.id for each in added]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
    assert {len(each) for each in ids} == {28}
    assert [each.text for each in await store.page("chat_a", limit=1000)] == [
        str(number) for number in range(200)
    ]


async def test_messages_of_one_iteration_share_a_transaction(
    store: MessageStore, commits: list[object]
) -> None:
    async def send_all(name: str) -> None:
        for number in range(4):
            await store.add(message(f"{name} {number}"))

    await asyncio.gather(*(send_all(str(client)) for client in range(50)))
    assert len(await store.page("chat_a", limit=1000)) == 200
    assert len(commits) < 20, "200 messages of 50 clients, and one read"


async def test_a_request_that_is_sent_again_is_stored_once(store: MessageStore) -> None:
    first = await store.add(message("one"), "client", "r1")
    again = await store.add(message("changed"), "client", "r1")
    assert again.existed
    assert (again.id, again.text, again.sent_at) == (first.id, "one", first.sent_at)
    others = [
        await store.add(message("two"), "client", "r2"),
        await store.add(message("three"), "other client", "r1"),
        await store.add(message("four"), None, "r1"),
        await store.add(message("five"), None, "r1"),
    ]
    assert not any(each.existed for each in others)
    assert [each.text for each in await store.page("chat_a")] == [
        *("one", "two", "three", "four", "five")
    ]


async def test_a_request_that_is_twice_in_a_batch_is_stored_once(store: MessageStore) -> None:
    requests = [("r1", "one"), ("r2", "two"), ("r1", "three"), ("r3", "four"), ("r2", "five")]
    stored = await asyncio.gather(
        *(store.add(message(text), "client", ref) for ref, text in requests)
    )
    assert [each.text for each in stored] == ["one", "two", "one", "four", "two"]
    assert [each.existed for each in stored] == [False, False, True, False, True]
    assert len(await store.page("chat_a")) == 3


async def test_two_nodes_store_a_request_once(store: MessageStore, url: str) -> None:
    other = MessageStore(url)
    await other.open()
    refs = [str(number) for number in range(20)]
    one, two = await asyncio.gather(
        asyncio.gather(*(store.add(message("one"), "client", ref) for ref in refs)),
        asyncio.gather(*(other.add(message("two"), "client", ref) for ref in refs)),
    )
    assert [each.id for each in one] == [each.id for each in two]
    assert all(first.existed != second.existed for first, second in zip(one, two, strict=True))
    await other.aclose()


async def test_pages_lead_back_to_the_first_message(store: MessageStore) -> None:
    for number in range(7):
        await store.add(message(str(number)))
    await store.add(message("elsewhere", room="chat_b"))
    last = await store.page("chat_a", limit=3)
    middle = await store.page("chat_a", before=last[0].id, limit=3)
    first = await store.page("chat_a", before=middle[0].id, limit=3)
    texts = [[each.text for each in page] for page in (first, middle, last)]
    assert texts == [["0"], ["1", "2", "3"], ["4", "5", "6"]]
    assert await store.page("chat_a", before=first[0].id) == []
    assert await store.page("chat_c") == []


async def test_a_user_edits_own_messages_only(store: MessageStore) -> None:
    stored = await store.add(message("one"))
    assert await store.edit(stored.id, "bob", "changed by Bob") is None
    assert await store.edit("no such id\0", "alice", "x") is None
    edited = await store.edit(stored.id, "alice", "two")
    assert edited is not None
    assert edited.edited_at is not None
    assert edited.edited_at >= stored.sent_at
    assert (edited.id, edited.text, edited.sent_at) == (stored.id, "two", stored.sent_at)
    assert await store.get(stored.id) == edited


async def test_a_deleted_message_keeps_its_place_and_loses_its_text(store: MessageStore) -> None:
    first, second = await store.add(message("one")), await store.add(message("two"))
    assert await store.delete(first.id, "bob") is None
    deleted = await store.delete(first.id, "alice")
    assert deleted is not None
    assert deleted.deleted_at is not None
    assert deleted.text == ""
    assert await store.page("chat_a") == [second]
    assert await store.delete(first.id) is None
    assert await store.edit(first.id, "alice", "again") is None
    by_moderator = await store.delete(second.id)
    assert by_moderator is not None
    assert by_moderator.text == ""


async def test_old_messages_are_removed_in_bounded_batches(
    store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "time_ms", lambda: 1_000_000)
    for number in range(5):
        await store.add(message(str(number)))
    monkeypatch.setattr(store_module, "time_ms", lambda: 2_000_000)
    newer = await store.add(message("newer"))
    assert await store.remove_older_than(1_000_000) == 0
    removed = [await store.remove_older_than(2_000_000, limit=2) for _ in range(4)]
    assert removed == [2, 2, 1, 0]
    assert await store.page("chat_a") == [newer]


async def test_a_locked_database_is_an_outage_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    path = tmp_path / "messages.db"
    store = MessageStore(f"sqlite:///{path}")
    await store.open()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=UNAVAILABLE) as refused:
                await store.add(message("lost"))
            assert refused.value.code == "unavailable"
        assert await store.page("chat_a") == []
        assert store.outage == "database is locked"
    await store.add(message("kept"))
    assert store.outage == ""
    await store.aclose()
    lines = [each.getMessage() for each in caplog.records if each.name == store_module.__name__]
    assert lines == [
        "the database is unavailable (write): database is locked",
        "the database has recovered (write)",
    ]


async def test_a_database_that_does_not_respond_in_time_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "OPERATION_SECONDS", 0.1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 1.0)
    path = tmp_path / "messages.db"
    store = MessageStore(f"sqlite:///{path}")
    await store.open()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.add(message("lost"))
        assert store.outage == "no response in time"
    monkeypatch.setattr(store_module, "OPERATION_SECONDS", WAIT_SECONDS)
    kept = await store.add(message("kept"))
    assert await store.page("chat_a") == [kept]
    await store.aclose()


@pytest.mark.postgres
async def test_an_outage_of_postgresql_ends_with_its_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_postgres() as postgres:
        store = MessageStore(postgres.new_database())
        await store.open()
        kept = await store.add(message("one"))
        postgres.kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.add(message("lost"))
        assert "127.0.0.1" in store.outage
        await asyncio.to_thread(postgres.start)
        later = await store.add(message("two"))
        assert await store.page("chat_a") == [kept, later]
        await store.aclose()
    lines = [each.getMessage() for each in caplog.records if each.name == store_module.__name__]
    assert [line.partition(":")[0] for line in lines] == [
        "the database is unavailable (write)",
        "the database has recovered (write)",
    ]


async def test_messages_are_not_accepted_before_the_start_and_after_the_end(url: str) -> None:
    store = MessageStore(url)
    with pytest.raises(StoreUnavailable):
        await store.add(message("early"))
    await store.open()
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        await store.add(message("late"))
