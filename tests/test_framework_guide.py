"""The framework's guide in a project: its programs do what its pages promise, and its names exist."""

import ast
import asyncio
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import falcon_pachinko
from falcon_pachinko import History, RouteConfig
from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.client import connect
from falcon_pachinko.limits import DEFAULT_LIMITS, DEFAULT_SERVER_LIMITS
from falcon_pachinko.testing import Closed, JoinRefused, Running, run, serve
from falcon_pachinko.uvicorn import PushProtocol
from tests.framework.support.redis_servers import running_redis

GUIDE = Path("{{cookiecutter.project_slug}}/docs/framework")
SOURCES = Path(falcon_pachinko.__file__).parents[1]
PAGES = (
    "client",
    "connections",
    "contract",
    "history",
    "hooks",
    "index",
    "limits",
    "many-processes",
    "moderation",
    "presence",
    "rooms",
    "servers",
    "sessions",
    "several-rooms",
    "testing",
    "workers",
)
PROGRAM_SECONDS = 60
TEST_CONFIGURATION = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

Load = Callable[..., ModuleType]


def python_blocks(text: str) -> list[str]:
    """Return the Python blocks of a page, without the indentation of a list."""
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, code in blocks]


def programs(text: str) -> dict[str, str]:
    """Return the complete modules of a page by their file name, which their first line gives."""
    found = {}
    for block in python_blocks(text):
        if name := re.match(r"# (\w+\.py)\n", block):
            found[name[1]] = block
    return found


@pytest.fixture
def page(root: Path) -> Callable[[str], str]:
    """Read a page of the guide."""

    def page(name: str) -> str:
        return (root / GUIDE / f"{name}.md").read_text("utf-8")

    return page


@pytest.fixture
def load(page: Callable[[str], str]) -> Load:
    """Run the program of a page as a module."""

    def load(name: str, file: str = "app.py") -> ModuleType:
        module = ModuleType("app")
        code = compile(programs(page(name))[file], f"{name}.md", "exec", dont_inherit=True)
        # The framework resolves annotations by the module that a class names.
        sys.modules["app"] = module
        try:
            exec(code, module.__dict__)
        finally:
            del sys.modules["app"]
        return module

    return load


def in_process(app: Any, talk: Callable[[Running], Awaitable[None]]) -> None:
    """Run an application and a conversation with it; every message must be declared, if any is."""

    async def conversation() -> None:
        declared = any(route.resource_class.sends for route in app.ws_routes)
        async with run(app, check_contract=declared, ws=PushProtocol) as server:
            await talk(server)

    asyncio.run(conversation())


def test_the_guide_has_all_pages_and_the_overview_lists_them(root: Path, page: Any) -> None:
    found = {path.stem for path in (root / GUIDE).glob("*.md")}
    assert found == {*PAGES, "architecture"}
    contents = page("index").partition("## Contents")[2].partition("## ")[0]
    assert set(re.findall(r"\]\((\w[^\s)]*)\.md\)", contents)) == found - {"index"}


def test_the_tree_lists_every_module(page: Any) -> None:
    tree = page("architecture").partition("## Modules")[2].partition("\n## ")[0]
    package = SOURCES / "falcon_pachinko"
    listed: set[str] = set()
    folders: list[str] = []
    for indent, name in re.findall(r"^ {6}( *)([\w./]+)(?: |$)", tree, re.MULTILINE):
        del folders[len(indent) // 2 :]
        listed.add("".join([*folders, name]))
        folders.append(name)
    # These folders have one line each.
    whole = ("scaffold/", "testing/", "backends/redis/lua/")
    assert listed.issuperset(whole)
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "__init__.py" or path.parent == package
    }
    files = {name for name in listed if not name.endswith("/")}
    assert files == {name for name in found if not name.startswith(whole)}


def test_the_answers_name_existing_files_and_names_in_them(page: Any, root: Path) -> None:
    answers = page("architecture").partition("## Where do I look")[2]
    package, project = SOURCES / "falcon_pachinko", root / GUIDE.parents[1]
    named = re.findall(r"`([\w/]+\.[a-z]+)`(?: \(`(\w+)`)?", answers)
    assert len(named) > 20
    for name, identifier in named:
        found = [package / name, *project.glob(f"src/*/{name}"), *package.rglob(name)]
        texts = [path.read_text("utf-8") for path in found if path.is_file()]
        assert any(identifier in text for text in texts), f"{name}: {identifier}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_a_how_to_and_its_blocks_compile(page: Any, name: str) -> None:
    text = page(name)
    blocks = python_blocks(text)
    assert len(blocks) == text.count("```python\n")
    assert programs(text), "a page shows a complete program"
    for block in blocks:
        compile(block, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if name != "index":
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings[:2] == ["How to", "Guarantees"]
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        json.loads(block)


@pytest.mark.parametrize("name", PAGES)
def test_table_cells_hold_phrases(page: Any, name: str) -> None:
    for line in re.findall(r"^\|.*\|$", page(name), re.MULTILINE):
        for cell in re.split(r"(?<!\\)\|", line.strip("|")):
            assert len(cell.split()) <= 40, cell


def test_public_names_are_listed_and_every_named_module_has_them(page: Any) -> None:
    section = page("index").partition("## Public names")[2]
    core, modules = section.split("From its modules:")
    listed = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", "\n".join(first_cells(core))))
    assert listed == set(falcon_pachinko.__all__)
    for name in re.findall(r"`(falcon_pachinko[\w.]+)`", "\n".join(first_cells(modules))):
        assert resolve(name) is not None
    for text in map(page, PAGES):
        for name in re.findall(r"`(falcon_pachinko(?:\.\w+)+)", text):
            assert resolve(name) is not None


def first_cells(table: str) -> list[str]:
    return re.findall(r"^\| (.+?) \|", table, re.MULTILINE)


def resolve(name: str) -> Any:
    """Import a dotted name."""
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(name)
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_overview_echoes(load: Load, page: Any) -> None:
    sent, received = map(json.loads, re.findall(r"```json\n(.*?)```", page("index"), re.DOTALL))

    async def talk(server: Running) -> None:
        async with server.connect("/rooms/a") as alice, server.connect("/rooms/a") as bob:
            await alice.send(sent)
            assert await alice.receive() == await bob.receive() == received

    in_process(load("index").app, talk)


def test_connections_answer_as_the_table_shows(load: Load, page: Any) -> None:
    text = page("connections")
    rows = re.findall(r"^\| `(\{.*?\})` \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    guess = rows[0][0]

    async def talk(server: Running) -> None:
        async with server.connect("/games/42?name=Alice") as alice:
            for sent, answer in rows:
                await alice.send_raw(sent)
                received = await alice.receive()
                if answer.startswith("`{"):
                    assert received == json.loads(answer.strip("`"))
                else:
                    error = received["payload"]
                    assert f"code `{error['code']}`" in answer
                    assert ("field" in error) == ("field" in answer)
                    assert f"field `{error.get('field')}`" in answer or "field" not in answer
            for _ in range(2):
                await alice.send_raw(guess)
                assert (await alice.receive())["type"] == "serverResult"
            await alice.send_raw(guess)
            assert (await alice.receive())["payload"]["code"] == "gameOver"
        async with server.connect("/games/42") as stranger:
            assert await stranger.wait_closed() == (4401, "a name is required")

    in_process(load("connections").app, talk)


def test_hooks_count_refuse_and_answer_as_the_table_shows(load: Load, page: Any) -> None:
    text, module = page("hooks"), load("hooks")
    rows = re.findall(
        r"^\| (`\{.*\}`|the same .*) \| (.+) \| `(\w+\.\w+)`, `(\w+)` \|$", text, re.MULTILINE
    )
    assert len(rows) == 5
    url_for = module.app.ws_url_for
    [url] = re.findall(r"`app.ws_url_for\(\"write\", user=\"Ada L.\"\)` returns `(\S+)`", text)
    assert url_for("write", user="Ada L.") == url

    async def talk(server: Running) -> None:
        put = rows[0][0].strip("`")
        async with (
            server.connect(url) as writer,
            server.connect(url_for("write", user="visitor")) as visitor,
            server.connect(url_for("read")) as reader,
        ):
            clients = (writer, writer, visitor, reader, reader)
            for (sent, answer, handler, outcome), client in zip(rows, clients, strict=True):
                await client.send_raw(put if sent.startswith("the same") else sent.strip("`"))
                received = await client.receive()
                if answer.startswith("`{"):
                    assert received == json.loads(answer.strip("`"))
                else:
                    assert f"code `{received['payload']['code']}`" in answer
                assert module.outcomes.pop((handler, outcome)) == 1
        assert not module.outcomes

    in_process(module.app, talk)


def test_sessions_end_and_continue_as_the_table_shows(load: Load, page: Any) -> None:
    rows = re.findall(
        r"^\| (.*`/rooms/\S+`.*|the same .*) \| (.+) \|$", page("sessions"), re.MULTILINE
    )
    assert len(rows) == 7
    note, refresh = (json.loads(re.findall(r"`(\{.*\})`", row)[0]) for row, _ in (rows[0], rows[3]))

    async def talk(server: Running) -> None:
        async with server.connect("/rooms/staff?token=alice:3600") as alice:
            await alice.send(note)
            assert (await alice.receive())["payload"] == {"user": "Alice", "text": "Hi"}
        async with server.connect("/rooms/staff?token=bob:3600") as bob:
            assert (await bob.wait_closed())[0] == 4403
        async with server.connect("/rooms/lobby?token=bob:20") as bob:
            assert (await bob.receive())["type"] == "serverSessionExpiring"
            await bob.send("clientRefreshSession", {"token": "outage"})
            assert (await bob.receive())["payload"]["code"] == "unavailable"
            await bob.send(refresh)
            assert (await bob.receive())["type"] == "serverSessionRefreshed"
            await bob.send("clientRefreshSession", {"token": "alice:3600"})
            assert (await bob.wait_closed())[0] == 4401
        async with server.connect("/rooms/lobby?token=outage") as bob:
            assert (await bob.wait_closed())[0] == 1013

    in_process(load("sessions").app, talk)


def test_rooms_broadcast_to_the_others(load: Load) -> None:
    module = load("rooms")

    async def talk(server: Running) -> None:
        async with server.connect("/ws/news/a") as alice, server.connect("/ws/news/a") as bob:
            await alice.send("clientHeadline", {"text": "Falcon lands"})
            headline = module.ServerHeadline(text="Falcon lands")
            assert await bob.receive(module.ServerHeadline) == headline
            with pytest.raises(TimeoutError):
                await alice.receive(timeout_seconds=0.1)

            class Response:
                media = None

            class Request:
                async def get_media(self) -> dict[str, str]:
                    return {"text": "By HTTP"}

            posting = module.HeadlineResource(module.app.ws_connection_manager)
            await posting.on_post(Request(), Response(), "a")
            for client in (alice, bob):
                assert (await client.receive(module.ServerHeadline)).text == "By HTTP"

    in_process(module.app, talk)


def test_one_connection_is_in_several_rooms(load: Load, page: Any) -> None:
    module = load("several-rooms")
    join, send, leave, joined, rejoin = (
        json.loads(block)
        for block in re.findall(r"```json\n(.*?)```", page("several-rooms"), re.DOTALL)
    )

    async def talk(server: Running) -> None:
        async with server.connect("/ws") as alice, server.connect("/ws/notes/general") as bob:
            await alice.send(join)
            assert await alice.receive() == joined
            await bob.send("clientNote", send["payload"])
            note = {"type": "serverNote", "payload": send["payload"]}
            assert await alice.receive() == {**note, "room": "general"}
            assert await bob.receive() == note
            await alice.send(send)
            assert (await alice.receive())["room"] == "general"
            with pytest.raises(JoinRefused) as refusal:
                await alice.join("private-1")
            assert (refusal.value.code, refusal.value.close_code) == ("refused", 4403)
            await alice.send(leave)
            assert (await alice.receive())["type"] == "serverLeft"
            await alice.send(rejoin)
            assert (await alice.receive())["type"] == "serverJoined"

    in_process(module.app, talk)


def test_the_client_answers_questions(load: Load) -> None:
    module = load("client", "client.py")

    async def talk() -> None:
        async with serve(load("history").app) as server:
            url = server.ws_url("/rooms/general")
            bot = asyncio.create_task(module.main(url, "token"))
            try:
                async with asyncio.timeout(PROGRAM_SECONDS), connect(url) as client:
                    assert (await client.receive()).payload == {"text": "I am here."}
                    await client.send("clientSendMessage", {"text": "Tea?"})
                    texts = [(await client.receive()).payload["text"] for _ in range(2)]
                    assert texts == ["Tea?", "Tea!"]
            finally:
                bot.cancel()
                await asyncio.wait({bot})

    asyncio.run(talk())


def test_moderation_bans_and_mutes_from_a_room(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_FILE", str(tmp_path / "state.json"))
    monkeypatch.delenv("BACKEND_URL", raising=False)
    module = load("moderation")

    async def talk(server: Running) -> None:
        bob = server.connect("/rooms/a?user=bob")
        async with server.connect("/rooms/a?user=admin") as admin, bob as client:
            await client.send("clientBan", {"user": "admin"})
            assert (await client.receive())["payload"]["code"] == "forbidden"
            await admin.send("clientMute", {"user": "bob"})
            await admin.send("clientSay", {"text": "hello"})
            assert (await client.receive())["type"] == "serverSaid"
            await client.send("clientSay", {"text": "hello"})
            assert (await client.receive())["payload"]["code"] == "muted"
            await admin.send("clientBan", {"user": "bob"})
            code, reason = await client.wait_closed()
            assert (code, reason.split(" until ")[0]) == (4403, "You are banned")
            async with server.connect("/rooms/a?user=bob") as again:
                assert (await again.wait_closed())[0] == 4403

    in_process(module.app, talk)
    assert "bob" in (tmp_path / "state.json").read_text("utf-8")


def test_history_is_recovered_as_the_page_describes(load: Load, page: Any) -> None:
    position, message, heartbeat = map(
        json.loads, re.findall(r"```json\n(.*?)```", page("history"), re.DOTALL)
    )
    [ping] = re.findall(r'`({"type": "clientPing".*?})`', page("history"))
    [pong] = re.findall(r'`({"type": "serverPong".*?})`', page("history"))
    [address] = re.findall(r"```text\n *(\S+)\n *```", page("history"))

    def shape(value: Any) -> Any:
        return {key: shape(of) for key, of in value.items()} if isinstance(value, dict) else None

    async def talk(server: Running) -> None:
        async with server.connect("/rooms/general") as alice:
            first = await alice.receive()
            assert shape(first) == shape(position)
            seconds = {each["payload"]["heartbeatSeconds"] for each in (first, position, heartbeat)}
            assert len(seconds) == 1
            await alice.send_raw(ping)
            assert await alice.receive() == json.loads(pong)
            await alice.send(message["type"].replace("serverNew", "clientSend"), message["payload"])
            known = await alice.receive()
            assert shape(known) == shape(message)
            async with server.connect("/rooms/general") as bob:
                await bob.receive()
                await alice.close()
                await bob.send("clientSendMessage", {"text": "missed"})
                await bob.send("clientTyping")
                assert (await bob.receive())["payload"] == {"text": "missed"}
                query = address.partition("?")[2]
                query = query.replace(message["id"], known["id"])
                query = query.replace(
                    position["payload"]["connection"], first["payload"]["connection"]
                )
                async with server.connect(f"/rooms/general?{query}") as again:
                    assert (await again.receive())["payload"] == {"text": "missed"}
                    assert (await again.receive())["payload"]["recovered"] is True
                async with server.connect("/rooms/general?since=0:1") as late:
                    assert (await late.receive())["payload"]["recovered"] is False

    in_process(load("history").app, talk)


def test_presence_follows_the_user(load: Load, page: Any) -> None:
    module = load("presence")
    module.app.ws_connection_manager.backend.presence.grace_seconds = 0.1

    async def talk(server: Running) -> None:
        async with server.connect("/lobby/a?user=Alice") as alice:
            state = await alice.receive(module.ServerRoomState)
            assert (state.users, state.count) == (["Alice"], 1)
            async with server.connect("/lobby/a?user=Bob") as bob:
                assert (await bob.receive(module.ServerRoomState)).users == ["Alice", "Bob"]
                assert (await alice.receive(module.ServerUserJoined)).user == "Bob"
                async with server.connect("/lobby/a?user=Bob") as second:
                    assert (await second.receive(module.ServerRoomState)).count == 2
            assert (await alice.receive(module.ServerUserLeft)).user == "Bob"
        async with server.connect("/lobby/a") as stranger:
            assert (await stranger.wait_closed())[0] == 4401

    in_process(module.app, talk)


def test_presence_carries_a_record(load: Load) -> None:
    module = load("presence", "status.py")
    here, away = module.Status("here"), module.Status("away", busy=True)

    async def talk(server: Running) -> None:
        async with server.connect("/office/Alice") as alice:
            assert (await alice.receive(module.ServerRoomState)).users == {"Alice": [here]}
            async with server.connect("/office/Bob") as bob:
                assert (await alice.receive(module.ServerUserJoined)).status == here
                state = await bob.receive(module.ServerRoomState)
                assert state.users == {"Alice": [here], "Bob": [here]}
                await alice.send("clientSetStatus", {"text": "away", "busy": True})
                assert (await bob.receive(module.ServerStatusChanged)).status == away
                async with server.connect("/office/Alice") as second:
                    state = await second.receive(module.ServerRoomState)
                    assert sorted(state.users["Alice"], key=str) == [away, here]
                    changed = await bob.receive(module.ServerStatusChanged)
                    assert (changed.user, changed.status) == ("Alice", here)

    in_process(module.app, talk)


def test_a_script_publishes_over_redis(
    load: Load, page: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "publish.py"
    script.write_text(programs(page("many-processes"))["publish.py"], "utf-8")

    async def chat(server: Running) -> None:
        async with server.connect("/rooms/general") as alice:
            await alice.send("clientSendMessage", {"text": "Hello"})
            assert (await alice.receive())["payload"] == {"text": "Hello"}

    async def publish(server: Running) -> None:
        async with server.connect("/rooms/general") as alice:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(script), env={**os.environ, "PYTHONPATH": str(SOURCES)}
            )
            assert await asyncio.wait_for(process.wait(), PROGRAM_SECONDS) == 0
            assert (await alice.receive())["payload"] == {"text": "The build is green."}

    in_process(load("many-processes").app, chat)
    with running_redis() as engine:
        monkeypatch.setenv("BACKEND_URL", engine.url)
        in_process(load("many-processes").app, chat)
        in_process(load("many-processes").app, publish)


def test_limits_close_a_flood(load: Load, page: Any) -> None:
    [floods] = re.findall(
        r"one that sends\s+(\d+) messages at once is closed with 4029", page("limits")
    )
    message = json.dumps({"type": "clientQuote", "payload": {}})

    async def talk(server: Running) -> None:
        async with server.connect("/ticker") as alice:
            with contextlib.suppress(Closed):
                for _ in range(int(floods)):
                    await alice.send_raw(message)
            assert (await alice.wait_closed())[0] == 4029

    in_process(load("limits").app, talk)


def test_the_limits_of_the_table_are_the_defaults(page: Any) -> None:
    table = page("limits").partition("## Reference")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+(?: [KM]iB)?) \|", table, re.MULTILINE))
    units = {"KiB": 1024, "MiB": 1024**2, "": 1}
    for limits in (DEFAULT_LIMITS, DEFAULT_SERVER_LIMITS):
        for name in limits.__slots__:
            figure, _, unit = rows.pop(name).partition(" ")
            default = getattr(limits, name)
            if name == "heartbeat_seconds":  # that of a route with a history
                default = RouteConfig(history=History()).heartbeat_interval
            assert float(figure.replace(",", "")) * units[unit] == default, name
    assert not rows


def test_the_timing_of_the_table_is_the_default(page: Any) -> None:
    rows = re.findall(r"^\| `Timing\.(\w+)` \((\d+)\) \|", page("many-processes"), re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == {
        name: getattr(Timing(), name) for name in Timing.__slots__
    }


def test_the_worker_publishes(load: Load) -> None:
    async def talk(server: Running) -> None:
        async with server.connect("/clock") as alice:
            for _ in range(2):
                assert (await alice.receive())["type"] == "serverTick"

    in_process(load("workers").app, talk)


def test_the_test_of_the_guide_passes(page: Any, tmp_path: Path) -> None:
    files = programs(page("index")) | programs(page("testing"))
    for name, code in files.items():
        (tmp_path / name).write_text(code, "utf-8")
    (tmp_path / "pytest.ini").write_text(TEST_CONFIGURATION, "utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCES}"},
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    assert finished.returncode == 0, finished.stdout
    assert "1 passed" in finished.stdout


def test_the_contract_is_printed(page: Any, tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(programs(page("contract"))["app.py"], "utf-8")
    printed = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PROGRAM_SECONDS,
    ).stdout
    assert '"asyncapi": "3.0.0"' in printed
    assert "clientRollDice: RollDice;" in printed
    assert "serverDiceRolled: ServerDiceRolled;" in printed
    document, _ = json.JSONDecoder().raw_decode(printed)
    [channel] = document["channels"].values()
    promised = page("contract").partition("close codes of the framework")[2].partition(";")[0]
    codes = {int(code) for code in re.findall(r"\b\d{4}\b", promised)}
    assert {int(code) for code in channel["x-close-codes"]} == {4401, *codes}
