"""The store of messages, over SQLite and over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from falcon_pachinko import MessageError

from {{ cookiecutter.package_name }} import (
    database,
    tables,
    transactions,
)
from {{ cookiecutter.package_name }} import store as store_module
from {{ cookiecutter.package_name }}.message_ids import time_ms
from {{ cookiecutter.package_name }}.records import NewMessage, StoreUnavailable
from {{ cookiecutter.package_name }}.store import MessageStore

from ..postgres import Postgres, running_postgres

pytestmark = pytest.mark.slow

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
        async with store.transaction("write") as connection:
            await connection.execute(tables.read_markers.delete())
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
    assert await store.edit("chat_a", stored.id, "bob", "changed by Bob") is None
    assert await store.edit("chat_a", "no such id\0", "alice", "x") is None
    edited = await store.edit("chat_a", stored.id, "alice", "two")
    assert edited is not None
    assert edited.edited_at is not None
    assert edited.edited_at >= stored.sent_at
    assert (edited.id, edited.text, edited.sent_at) == (stored.id, "two", stored.sent_at)
    assert await store.get(stored.id) == edited


async def test_a_deleted_message_keeps_its_place_and_loses_its_text(store: MessageStore) -> None:
    first, second = await store.add(message("one")), await store.add(message("two"))
    assert await store.delete("chat_a", first.id, "bob") is None
    deleted = await store.delete("chat_a", first.id, "alice")
    assert deleted is not None
    assert deleted.deleted_at is not None
    assert deleted.text == ""
    assert await store.page("chat_a") == [second]
    assert await store.delete("chat_a", first.id) is None
    assert await store.edit("chat_a", first.id, "alice", "again") is None
    by_moderator = await store.delete("chat_a", second.id)
    assert by_moderator is not None
    assert by_moderator.text == ""


async def test_each_change_of_a_message_has_a_higher_revision(store: MessageStore) -> None:
    stored = await store.add(message("one"))
    edited = await store.edit("chat_a", stored.id, "alice", "two")
    reacted = await store.react("chat_a", stored.id, "bob", "👍", on=True)
    deleted = await store.delete("chat_a", stored.id, "alice")
    assert edited is not None
    assert reacted is not None
    assert deleted is not None
    assert [stored.revision, edited.revision, reacted.revision, deleted.revision] == [0, 1, 2, 3]


async def test_a_message_is_changed_in_its_own_room_only(store: MessageStore) -> None:
    stored = await store.add(message("one"))
    assert await store.edit("chat_b", stored.id, "alice", "two") is None
    assert await store.delete("chat_b", stored.id) is None
    with pytest.raises(LookupError):
        await store.react("chat_b", stored.id, "bob", "👍", on=True)
    assert await store.get(stored.id) == stored
    assert await store.get_all("chat_a", [stored.id, "other"]) == [stored]
    assert await store.get_all("chat_b", [stored.id]) == []


async def test_reactions_are_counted_by_user(store: MessageStore) -> None:
    first, second = await store.add(message("one")), await store.add(message("two"))
    for user, count in (("alice", 1), ("bob", 2), ("bob", None)):
        change = await store.react("chat_a", first.id, user, "👍", on=True)
        assert (change and change.count) == count
    await store.react("chat_a", first.id, "bob", "🎉", on=True)
    await store.react("chat_a", second.id, "alice", "🎉", on=True)
    found = await store.reactions_to([first.id], "alice")
    assert [(each.reaction, each.count, each.is_mine) for each in found] == [
        ("👍", 2, True),
        ("🎉", 1, False),
    ]
    taken_back = await store.react("chat_a", first.id, "alice", "👍", on=False)
    assert taken_back is not None
    assert taken_back.count == 1
    assert await store.react("chat_a", first.id, "alice", "👍", on=False) is None
    assert [each.is_mine for each in await store.reactions_to([first.id], "alice")] == [False] * 2
    assert await store.reactions_to([], "alice") == []
    await store.remove_older_than(END_OF_TIME_MS)
    assert await store.reactions_to([first.id, second.id], "alice") == []


async def test_reactions_at_the_same_time_are_all_counted(store: MessageStore) -> None:
    stored = await store.add(message("one"))
    changes = await asyncio.gather(
        *(store.react("chat_a", stored.id, f"user {n}", "👍", on=True) for n in range(8))
    )
    found = [(each.count, each.revision) for each in changes if each is not None]
    assert sorted(found) == [(number, number) for number in range(1, 9)]


async def test_the_kinds_of_reactions_to_a_message_are_bounded(store: MessageStore) -> None:
    stored = await store.add(message("one"))
    for number in range(20):
        await store.react("chat_a", stored.id, "alice", chr(0x1F600 + number), on=True)
    with pytest.raises(MessageError, match="at most 20 different reactions"):
        await store.react("chat_a", stored.id, "bob", "👍", on=True)
    again = await store.react("chat_a", stored.id, "bob", chr(0x1F600), on=True)
    assert again is not None
    assert again.count == 2
    assert len(await store.reactions_to([stored.id], "alice")) == 20


async def test_a_marker_does_not_go_back(store: MessageStore) -> None:
    ids = [(await store.add(message(str(number)))).id for number in range(3)]
    assert await store.read_marker("chat_a", "bob") is None
    assert await store.mark_read("chat_a", "bob", ids[1])
    assert not await store.mark_read("chat_a", "bob", ids[1])
    assert not await store.mark_read("chat_a", "bob", ids[0])
    assert await store.read_marker("chat_a", "bob") == ids[1]
    assert await store.mark_read("chat_a", "bob", ids[2])
    assert await store.read_marker("chat_a", "bob") == ids[2]
    assert await store.read_marker("chat_b", "bob") is None


async def test_unread_messages_are_those_of_others_after_the_marker(store: MessageStore) -> None:
    for room in ("chat_a", "chat_b", "chat_c"):
        first = await store.add(message("read", room))
        await store.mark_read(room, "bob", first.id)
        for number in range({"chat_a": 2, "chat_b": 101, "chat_c": 0}[room]):
            await store.add(message(str(number), room))
        await store.add(message("own", room, user="bob"))
    deleted = await store.add(message("deleted"))
    await store.delete("chat_a", deleted.id)
    await store.add(message("never read", "chat_d"))
    assert await store.unread("bob") == {"chat_a": 2, "chat_b": 100, "chat_c": 0}
    assert await store.unread("carol") == {}


async def test_the_markers_of_a_user_are_bounded(
    store: MessageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_MARKERS", 3)
    stored = await store.add(message("one"))
    for number in range(5):
        monkeypatch.setattr(store_module, "time_ms", lambda at=number: at)
        await store.mark_read(f"room {number}", "bob", stored.id)
        await store.mark_read(f"room {number}", "carol", stored.id)
    assert set(await store.unread("bob")) == {"room 2", "room 3", "room 4"}


async def test_messages_after_the_removal_of_old_ones_are_unread(store: MessageStore) -> None:
    await store.mark_read("chat_a", "bob", (await store.add(message("old"))).id)
    assert await store.remove_older_than(END_OF_TIME_MS) == 1
    assert await store.unread("bob") == {"chat_a": 0}
    await store.add(message("new"))
    assert await store.unread("bob") == {"chat_a": 1}


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
    lines = [each.getMessage() for each in caplog.records if each.name == transactions.__name__]
    assert lines == [
        "the database is unavailable (write): database is locked",
        "the database has recovered (write)",
    ]


async def test_a_database_that_does_not_respond_in_time_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "OPERATION_SECONDS", 0.1)
    monkeypatch.setattr(database, "BUSY_SECONDS", 1.0)
    path = tmp_path / "messages.db"
    store = MessageStore(f"sqlite:///{path}")
    await store.open()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.add(message("lost"))
        assert store.outage == "no response in time"
    monkeypatch.setattr(transactions, "OPERATION_SECONDS", WAIT_SECONDS)
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
    lines = [each.getMessage() for each in caplog.records if each.name == transactions.__name__]
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
