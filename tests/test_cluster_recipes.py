"""Recipes and the tutorial's worker on several nodes: PostgreSQL, Valkey and the services are real programs."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from falcon_pachinko import testing

from .support.blocks import steps_of, write_block
from .support.recipe_project import RecipeProject, recipe_blocks

BOUND_SECONDS = 300
EXPIRY_SECONDS = 3
OUTAGE_MS = 6_000


@pytest.fixture
def valkey_url(recipe_project: RecipeProject) -> Iterator[str]:
    with recipe_project.test_server("tests.valkey", "running_valkey", "server.url") as url:
        yield url


async def payload_of(client: testing.Client, message_type: str) -> Any:
    """Receive up to the next message of a type, and return its payload."""
    return (await client.receive_until(message_type))[-1]["payload"]


@pytest.mark.timeout(BOUND_SECONDS)
async def test_messages_move_from_sqlite_to_postgresql(
    recipe_project: RecipeProject, tmp_path: Path
) -> None:
    check, move = recipe_blocks("postgresql", "run")
    path = "/ws/chat/general"
    state_folder = str(recipe_project.folder / "var")
    with recipe_project.serve(tmp_path / "sqlite", APP_STATE_FOLDER=state_folder) as service:
        async with service.connect(path, "Alice") as alice:
            for text in ("first", "second"):
                await alice.send("clientSendMessage", {"text": text})
                assert (await payload_of(alice, "serverNewMessage"))["text"] == text
    with recipe_project.test_server(
        "tests.postgres", "running_postgres", "server.new_database()"
    ) as url:
        checked = recipe_project.shell(check, APP_DATABASE_URL=url)
        assert "writable, with schema 0002\n" in checked
        assert "messages: 2\n" in recipe_project.shell(move, APP_DATABASE_URL=url)
        with pytest.raises(AssertionError, match="UniqueViolation"):
            recipe_project.shell(move, APP_DATABASE_URL=url)
        with recipe_project.serve(tmp_path / "postgresql", APP_DATABASE_URL=url) as service:
            async with service.connect(path, "Bob") as bob:
                await bob.send("clientLoadHistory", {})
                past = (await payload_of(bob, "serverHistory"))["messages"]
                assert [each["text"] for each in past] == ["first", "second"]


@pytest.mark.timeout(BOUND_SECONDS)
async def test_two_services_share_one_redis(
    recipe_project: RecipeProject, tmp_path: Path, valkey_url: str
) -> None:
    [acl] = recipe_blocks("second-service", "acl")
    [notify] = recipe_blocks("second-service", "run")
    with redis.Redis.from_url(valkey_url) as administrator:
        administrator.execute_command("ACL SETUSER", *acl.split()[1:])
    support_url = valkey_url.replace("//", "//support:another-password@")
    support = {"APP_BACKEND_URL": support_url, "APP_BACKEND_PREFIX": "support_service"}
    with (
        recipe_project.serve(tmp_path / "chat", APP_BACKEND_URL=valkey_url) as first,
        recipe_project.serve(tmp_path / "support", **support) as second,
    ):
        async with (
            first.connect("/ws/chat/general", "Alice") as alice,
            second.connect("/ws/chat/general", "Bob") as bob,
        ):
            for client, text in ((alice, "to the chat"), (bob, "to the support")):
                await client.receive_until("serverPosition")
                await client.send("clientSendMessage", {"text": text})
                assert (await payload_of(client, "serverNewMessage"))["text"] == text
            await asyncio.to_thread(recipe_project.shell, notify, CHAT_REDIS_URL=valkey_url)
            announced = await payload_of(alice, "serverSystemAnnouncement")
            assert announced == {"text": "The ticket 4711 is solved."}
            with pytest.raises(AssertionError, match="BackendUnavailable"):
                await asyncio.to_thread(recipe_project.shell, notify, CHAT_REDIS_URL=support_url)
            await bob.send("clientSendMessage", {"text": "still here"})
            *before, _ = await bob.receive_until("serverNewMessage")
            assert "serverSystemAnnouncement" not in {each["type"] for each in before}


def node_of_cluster(valkey_url: str) -> dict[str, str]:
    """Return the settings of a node whose users leave soon after its end."""
    return {
        "APP_BACKEND_URL": valkey_url,
        "APP_PRESENCE_EXPIRY_SECONDS": str(EXPIRY_SECONDS),
    }


@pytest.mark.timeout(BOUND_SECONDS)
async def test_a_game_continues_on_another_node(
    recipe_project: RecipeProject, tmp_path: Path, valkey_url: str
) -> None:
    variables = node_of_cluster(valkey_url)
    path = "/ws/races/derby"
    with contextlib.ExitStack() as nodes:

        def start(name: str) -> Any:
            return nodes.enter_context(recipe_project.serve(tmp_path / name, **variables))

        first = start("first")
        async with first.connect(path, "Alice") as alice:
            # The first node runs the loop.
            assert await payload_of(alice, "serverFrame") == {"positions": {"Alice": 0}}
            async with start("second").connect(path, "Bob") as bob:
                await alice.send("clientSteer", {"direction": 1})
                await bob.send("clientSteer", {"direction": -1})
                frame: dict[str, Any] = {"positions": {}}
                while frame["positions"].get("Alice", 0) < 5 or frame["positions"]["Bob"] > -5:
                    frame = await payload_of(bob, "serverFrame")
                first.process.kill()
                reached = frame["positions"]["Bob"]
                # Alice leaves when the lease of her node has expired; no step of Bob is lost or repeated.
                while "Alice" in frame["positions"]:
                    frame = await payload_of(bob, "serverFrame")
                    reached -= 1
                    assert frame["positions"]["Bob"] == reached


@pytest.fixture
def voyages(plain_project: RecipeProject, root: Path, tmp_path: Path) -> RecipeProject:
    """A project after the steps of the tutorial that add voyages and their worker."""
    project = plain_project.copy(tmp_path / "chat-service")
    project.module("falcon_pachinko", "new", "Voyage", "--path", "/ws/voyages/{number:int}")
    text = (root / "docs/tutorial.md").read_text("utf-8").replace("ship_talk", "chat_service")
    for step, block in steps_of(text[text.index("## 3.") : text.index("## 5.")]):
        write_block(project.folder, step, block)
    return project


def assert_from_one_worker(received: list[int]) -> None:
    """Check positions: two workers would send each of them twice."""
    assert received == sorted(received)
    # NOTE: a successor makes up for missed ticks by one, which may be in the same mile as the next tick.
    assert len(set(received)) >= len(received) - 1


@pytest.mark.timeout(BOUND_SECONDS)
async def test_the_worker_of_the_tutorial_runs_once_and_survives_an_outage(
    voyages: RecipeProject, tmp_path: Path, valkey_url: str
) -> None:
    variables = node_of_cluster(valkey_url)
    path = "/ws/voyages/7"

    async def miles(passenger: testing.Client, count: int) -> list[int]:
        return [
            (await payload_of(passenger, "serverVoyagePosition"))["miles"] for _ in range(count)
        ]

    with (
        voyages.serve(tmp_path / "first", **variables) as first,
        voyages.serve(tmp_path / "second", **variables) as second,
    ):
        async with second.connect(path, "Bo") as bo:
            async with first.connect(path, "Ada") as ada:
                for passenger in (ada, bo):
                    assert_from_one_worker(await miles(passenger, 6))
                with redis.Redis.from_url(valkey_url) as administrator:
                    administrator.execute_command("CLIENT PAUSE", OUTAGE_MS, "ALL")
                [before] = await miles(bo, 1)
                while (await miles(bo, 1))[0] < before + 2 * OUTAGE_MS // 500:
                    pass
            first.process.kill()
            assert_from_one_worker(await miles(bo, 12))
