"""The command ``new``: a complete, sorted and formatted resource, or a refusal of one line."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from falcon_pachinko.__main__ import main

APP = '''\
"""The composition root."""

import falcon.asgi

from .auth import AuthMiddleware
from .resources.chat import (
    ROOM_PREFIX,
    ChatResource,
)
from .resources.page import PageResource  # the page

# Read from the environment.
from .settings import Settings


def create_app(settings: Settings) -> App:
    service = install(falcon.asgi.App())
    service.add_route("/", PageResource())
    service.add_static_route("/static", "web")
    service.add_websocket_route("/ws/chat/{room_name}", ChatResource)

    return service
'''
FILES = {
    "pyproject.toml": "[tool.ruff]\nline-length = 100\n",
    "src/falcon_pachinko/app.py": "",
    "src/tiny/app.py": APP,
    "src/tiny/users.py": "class User: ...\n",
    "src/tiny/message_fields.py": "Text = UserId = UserName = str\n",
    "src/tiny/messages.py": "BAD_ROOM_NAME, NOT_SIGNED_IN = 1, 2\nCLOSE_CODES = {}\n",
    "src/tiny/resources/__init__.py": "",
    "src/tiny/resources/chat.py": "ROOM_PREFIX = 'chat_'\nclass ChatResource: ...\n",
    "src/tiny/resources/page.py": "class PageResource: ...\nclass TellTales: ...\n",
    "tests/conftest.py": "def chat(): ...\ndef headers_of(): ...\n",
    "tests/integration/test_http.py": "",
}
# Stands in for the module that writes the contract of a real project.
CONTRACT_FILES = """
import pathlib, sys
pathlib.Path("asyncapi.yaml").write_text("new")
print("wrote asyncapi.yaml")
sys.exit({status})
"""

needs_ruff = pytest.mark.skipif(
    importlib.util.find_spec("ruff") is None, reason="Ruff is not installed"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with everything that the command needs in a project."""
    for shown, text in FILES.items():
        path = tmp_path / shown
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def read(project: Path, shown: str) -> str:
    return (project / shown).read_text(encoding="utf-8")


@needs_ruff
def test_it_writes_the_resource_and_its_tests_and_adds_the_route(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(project)
    assert main(["new", "GameRoom", "--path", "/ws/games/{game_id}"]) == 0
    after = content_of(project)
    resource, tests = "src/tiny/resources/game_room.py", "tests/integration/test_game_room.py"
    assert after.keys() - before.keys() == {resource, tests}
    assert [name for name in before if before[name] != after[name]] == ["src/tiny/app.py"]
    printed = capsys.readouterr().out
    for line in (f"wrote {resource}", f"wrote {tests}", "changed src/tiny/app.py"):
        assert line in printed.splitlines()
    # This project has no module that writes the contract, so the command refers to make.
    assert "make asyncapi" in printed
    added = APP.replace(
        "from .resources.page",
        "from .resources.game_room import GameRoomResource\nfrom .resources.page",
    ).replace(
        ", ChatResource)\n",
        ", ChatResource)\n    service.add_websocket_route(\n"
        '        "/ws/games/{game_id}",\n        GameRoomResource,\n    )\n',
    )
    assert after["src/tiny/app.py"].decode() == added
    written = after[resource].decode()
    assert 'ROOM_PREFIX = "game_room:"' in written
    [signature] = [
        node.args
        for node in ast.walk(ast.parse(written))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "on_connect"
    ]
    assert [each.arg for each in signature.args] == ["self", "req", "ws", "game_id"]
    assert signature.args[-1].annotation is not None
    assert ast.unparse(signature.args[-1].annotation) == (
        "Annotated[str, msgspec.Meta(description='The game id of the game room, percent-encoded.',"
        " examples=['general'])]"
    )
    assert '@handles_message("clientTellGameRoom")' in written
    for text in (written, after[tests].decode()):
        compile(text, "written", "exec")


def test_the_default_path_is_made_of_the_name(project: Path) -> None:
    assert main(["new", "GameRoom"]) == 0
    app = read(project, "src/tiny/app.py")
    assert '"/ws/game-room/{game_room_name}",\n        GameRoomResource,' in app


@needs_ruff
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("Alpha", "from .auth", "from .resources.chat"),
        ("Cheese", "from .resources.chat", "from .resources.page"),
        ("Zoo", "from .resources.page", "# Read from"),
    ],
)
def test_the_import_is_sorted(project: Path, name: str, before: str, after: str) -> None:
    assert main(["new", name]) == 0
    app = read(project, "src/tiny/app.py")
    imported = f"from .resources.{name.lower()} import {name}Resource\n"
    assert app.index(before) < app.index(imported) < app.index(after)


def test_line_ends_are_kept(project: Path) -> None:
    app = project / "src/tiny/app.py"
    app.write_bytes(APP.replace("\n", "\r\n").encode())
    assert main(["new", "GameRoom"]) == 0
    written = app.read_bytes()
    assert written.count(b"\n") == written.count(b"\r\n") > APP.count("\n")


def test_a_second_resource_follows_the_first_and_a_repetition_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "GameRoom"]) == 0
    assert main(["new", "Arena"]) == 0
    app = read(project, "src/tiny/app.py")
    assert app.index("        GameRoomResource,") < app.index("        ArenaResource,")
    capsys.readouterr()
    before = content_of(project)
    assert main(["new", "GameRoom", "--path", "/elsewhere"]) == 1
    assert "game_room.py exists already: give another name than 'GameRoom'" in (
        capsys.readouterr().err
    )
    assert content_of(project) == before


def test_a_dry_run_prints_all_changes_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(project)
    assert main(["new", "GameRoom", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "+from .resources.game_room import GameRoomResource\n" in shown
    assert "--- /dev/null\n+++ b/src/tiny/resources/game_room.py\n" in shown
    assert "+++ b/tests/integration/test_game_room.py\n" in shown
    assert content_of(project) == before
    # The printed text is the text that is written without --dry-run.
    assert main(["new", "GameRoom"]) == 0
    written = read(project, "src/tiny/resources/game_room.py")
    assert "".join(f"+{line}" for line in written.splitlines(keepends=True)) in shown


REFUSED: dict[str, tuple[list[str], str]] = {
    "lower case": (["gameRoom"], "'gameRoom'"),
    "an underscore": (["Game_Room"], "'Game_Room'"),
    "not ASCII": (["Jäger"], "'Jäger'"),
    "a lone surrogate": (["A\udcff"], r"'A\udcff'"),
    "a line break": (["Game\n"], r"'Game\n'"),
    "an empty name": ([""], "''"),
    "a long name": (["G" * 33], "G" * 33),
    "a keyword": (["Class"], "'Class'"),
    "a constant": (["None"], "'None'"),
    "a device": (["Con"], "'Con'"),
    "the base class": (["WebSocket"], "WebSocketResource"),
    "Resource": (["GameRoomResource"], "give GameRoom"),
    "nothing but Resource": (["Resource"], "'Resource'"),
    "a module that is taken": (["Page"], "src/tiny/resources/page.py exists already"),
    "a test that is taken": (["Http"], "tests/integration/test_http.py exists already"),
    "a class that is taken": (["Tales"], "src/tiny/resources/page.py has a TellTales already"),
    "no slash": (["Game", "--path", "games"], "'games'"),
    "an empty path": (["Game", "--path", ""], "''"),
    "a slash at the end": (["Game", "--path", "/games/"], "'/games/'"),
    "two slashes": (["Game", "--path", "//games"], "'//games'"),
    "a dot": (["Game", "--path", "/a/../b"], "'..'"),
    "a space": (["Game", "--path", "/a b"], "'a b'"),
    "a quote": (["Game", "--path", '/a"b'], "'a\"b'"),
    "a field in a part": (["Game", "--path", "/a-{b}"], "'a-{b}'"),
    "an open field": (["Game", "--path", "/{b"], "'{b'"),
    "not an identifier": (["Game", "--path", "/{game-id}"], "'game-id'"),
    "a digit first": (["Game", "--path", "/{1st}"], "'1st'"),
    "a private field": (["Game", "--path", "/{__id}"], "'__id'"),
    "an empty field": (["Game", "--path", "/{}"], "''"),
    "a keyword as field": (["Game", "--path", "/{class}"], "'class'"),
    "a name that on_connect uses": (["Game", "--path", "/{ws}"], "'ws'"),
    "a field twice": (["Game", "--path", "/{a}/{a}"], "'a' twice"),
    "an unknown converter": (["Game", "--path", "/{a:dt}"], "'dt'"),
    "a path that is taken": (["Game", "--path", "/ws/chat/{room_name}"], "taken by"),
    "its own default path": (["Chat2", "--path", "/ws/chat/{other}"], "taken by '/ws/chat/{room_"),
    "a room of another resource": (
        ["Game", "--path", "/ws/chat/lobby"],
        "taken by '/ws/chat/{room_name}'",
    ),
    "a path that contains another one": (["Game", "--path", "/ws/{kind}/{name}"], "taken by"),
    "the path of the page": (["Game", "--path", "/{name}"], "taken by '/'"),
    "a static path": (["Game", "--path", "/static/games"], "taken by '/static'"),
    "a conflict in Falcon's router": (
        ["Game", "--path", "/ws/chat/{other}/moves"],
        "cannot be served beside",
    ),
    "a prefix that is taken": (["Game", "--prefix", "chat_"], "'chat_' (ROOM_PREFIX in src/tiny/"),
    "a longer prefix": (["Game", "--prefix", "chat_2"], "'chat_2'"),
    "a shorter prefix": (["Game", "--prefix", "ch"], "'ch'"),
    "an empty prefix": (["Game", "--prefix", ""], "''"),
    "a long prefix": (["Game", "--prefix", "é" * 21], "é" * 21),
    "a control character": (["Game", "--prefix", "a\tb"], r"'a\tb'"),
    "an invisible character": (["Game", "--prefix", "a\u200b"], "invisible character U+200B"),
    "a prefix that begins with a blank": (
        ["Game", "--prefix", " a"],
        "begins or ends with a blank",
    ),
    "a surrogate in a prefix": (["Game", "--prefix", "\ud800"], r"'\ud800'"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_argument_is_refused_in_one_line_and_nothing_is_changed(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    if reason == "taken by '/'":
        app = project / "src/tiny/app.py"
        app.write_text(APP.replace('"/"', '"/{page}"'), encoding="utf-8")
        reason = "taken by '/{page}'"
    before = content_of(project)
    assert main(["new", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert reason in line
    assert ": " in line, "the next step follows"
    assert content_of(project) == before


BROKEN: dict[str, tuple[str, str, str, str]] = {
    "no route": (
        "src/tiny/app.py",
        "service.add_websocket_route",
        "print",
        "adds no WebSocket route",
    ),
    "no imports": ("src/tiny/app.py", "from .", "from x.", "adds no WebSocket route"),
    "not Python": ("src/tiny/app.py", "def create_app(", "def create_app", "fix it first"),
    "no close code": ("src/tiny/messages.py", "BAD_ROOM_NAME", "BAD", "has no BAD_ROOM_NAME"),
    "no user": ("src/tiny/users.py", "User", "Person", "has no User"),
    "no fixture": ("tests/conftest.py", "chat", "talk", "tests/conftest.py has no chat"),
    "not TOML": ("pyproject.toml", "[tool", "tool", "pyproject.toml cannot be read"),
}


@pytest.mark.parametrize(("file", "old", "new", "reason"), BROKEN.values(), ids=BROKEN)
def test_an_incomplete_project_is_refused_and_nothing_is_changed(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    reason: str,
) -> None:
    changed = read(project, file).replace(old, new)
    (project / file).write_text(changed, encoding="utf-8")
    before = content_of(project)
    assert main(["new", "GameRoom"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert reason in line
    assert content_of(project) == before


def test_a_folder_without_a_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "GameRoom"]) == 1
    assert "run the command in the folder of the project" in capsys.readouterr().err
    assert content_of(tmp_path) == {}


@pytest.mark.parametrize(
    "arguments",
    [[], ["old"], ["new"], ["new", "GameRoom", "Arena"], ["new", "GameRoom", "--pat", "/x"]],
    ids=" ".join,
)
def test_wrong_usage_exits_with_status_2(project: Path, arguments: list[str]) -> None:
    before = content_of(project)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert content_of(project) == before


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_failed_write_is_undone(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    written: int,
) -> None:
    before = content_of(project)
    write, left = Path.write_bytes, [True] * written + [False]

    def write_bytes(path: Path, data: Any) -> int:
        if left and not left.pop(0):
            write(path, data[:10])
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert main(["new", "GameRoom"]) == 1
    captured = capsys.readouterr()
    assert "No space left on device" in captured.err
    assert "nothing has been changed" in captured.err
    assert captured.out == ""
    assert content_of(project) == before


@pytest.mark.parametrize("status", [0, 1])
def test_the_contract_is_written_and_a_failure_is_undone(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    pytest.importorskip("yaml")
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    contract_files = project / "src/tiny/contract_files.py"
    contract_files.write_text(CONTRACT_FILES.format(status=status), encoding="utf-8")
    (project / "asyncapi.yaml").write_text("old", encoding="utf-8")
    before = content_of(project)
    assert main(["new", "GameRoom"]) == status
    if status:
        assert content_of(project) == before
        assert "tiny.contract_files fails with the new resource" in capsys.readouterr().err
    else:
        assert read(project, "asyncapi.yaml") == "new"
        assert "wrote asyncapi.yaml" in capsys.readouterr().out.splitlines()


LONG_FIELD = "f" * 32
LONG_PAIR = f"/{{{LONG_FIELD}}}/{{{'u' * 32}:uuid}}"
# As in the projects of the template.
RUFF_SETTINGS = """
[tool.ruff]
line-length = 100
lint.select = ["E4", "E7", "E9", "F", "W", "I", "UP", "B", "C4", "SIM", "PIE", "PT", "RUF", "ASYNC"]
lint.isort.known-first-party = ["tiny", "qq*"]
lint.isort.section-order = [
    "future", "standard-library", "third-party", "framework", "first-party", "local-folder",
]
lint.isort.sections.framework = ["falcon_pachinko"]
"""


@needs_ruff
@pytest.mark.parametrize("package", ["tiny", "q" * 60], ids=["short", "long"])
@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/{a}",
        "/{a:int}",
        "/{a:uuid}/{user}",
        f"/{LONG_FIELD}/{{text}}/{{Tell}}",
        LONG_PAIR,
        f"{LONG_PAIR}/{{{'v' * 32}:int}}",
    ],
)
def test_the_new_files_are_clean_for_ruff_with_any_names(
    project: Path, path: str, package: str
) -> None:
    (project / "pyproject.toml").write_text(RUFF_SETTINGS, encoding="utf-8")
    (project / "src/tiny").rename(project / "src" / package)
    app = project / "src" / package / "app.py"
    # No route of these overlaps any of the paths.
    routes = APP.replace('"/"', '"/1/2/3/4/5"').replace("/ws/chat/{room_name}", "/1/2/3/4/6")
    before = content_of(project)
    for number, name in enumerate(("A", "HTTPRoom2", "G" * 32)):
        app.write_text(routes, encoding="utf-8")
        assert main(["new", name, "--path", path, "--prefix", f"{number}'\"\\"]) == 0
        check(project, "check", "--select", "I", str(app))
    new = sorted(content_of(project).keys() - before.keys())
    assert len(new) == 6
    check(project, "check", *new)
    check(project, "format", "--check", *new)


def check(project: Path, *arguments: str) -> None:
    """Run Ruff with the settings of a project."""
    finished = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@needs_ruff
def test_the_rest_of_app_py_keeps_its_layout(project: Path) -> None:
    untidy = APP.replace('"/static", "web"', "'/static','web'")
    (project / "src/tiny/app.py").write_text(untidy, encoding="utf-8")
    assert main(["new", "GameRoom"]) == 0
    written = read(project, "src/tiny/app.py").splitlines()
    assert [line for line in written if line in untidy.splitlines()] == untidy.splitlines()
    assert len(written) == len(untidy.splitlines()) + 5


def test_without_ruff_the_files_are_valid_and_the_command_refers_to_make(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)
    assert main(["new", "GameRoom"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "make format" in line]
    assert "Ruff is not installed" in line
    for shown in ("src/tiny/resources/game_room.py", "tests/integration/test_game_room.py"):
        compile(read(project, shown), shown, "exec")
    app = read(project, "src/tiny/app.py")
    compile(app, "app.py", "exec")
    assert "from .resources.game_room import GameRoomResource\n" in app


@needs_ruff
def test_an_error_of_ruff_is_reported_and_nothing_is_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "pyproject.toml").write_text("[tool.ruff]\nrequired-version = '<0.1'\n", "utf-8")
    before = content_of(project)
    assert main(["new", "GameRoom"]) == 1
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert "ruff" in line
    assert captured.out == ""
    assert content_of(project) == before


@needs_ruff
def test_imports_with_numbers_are_in_natural_order(project: Path) -> None:
    for name in ("Rooms", "Room10b", "Room2", "RoomA", "Room10", "Room"):
        assert main(["new", name]) == 0
    lines = read(project, "src/tiny/app.py").splitlines()
    modules = [line.split()[1].rpartition(".")[2] for line in lines if ".resources.room" in line]
    assert modules == ["room", "room2", "room10", "room10b", "room_a", "rooms"]


@needs_ruff
@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (49, "from .resources.game_room import GameRoomResource\n"),
        (48, "from .resources.game_room import (\n    GameRoomResource,\n)\n"),
    ],
)
def test_an_import_longer_than_a_line_is_wrapped(project: Path, length: int, expected: str) -> None:
    settings = f"[tool.ruff]\nline-length = {length}\n"
    (project / "pyproject.toml").write_text(settings, encoding="utf-8")
    assert main(["new", "GameRoom"]) == 0
    assert expected in read(project, "src/tiny/app.py")


@pytest.mark.parametrize("ruff", [True, False], ids=["Ruff", "no Ruff"])
@pytest.mark.parametrize(
    "text", ["plain", "it's", 'the "best"', "'\"", "back\\slash", "\\'", "é😀"]
)
def test_the_prefix_is_written_as_given(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str, ruff: bool
) -> None:
    if not ruff:
        monkeypatch.setitem(sys.modules, "ruff", None)
    assert main(["new", "GameRoom", "--prefix", text]) == 0
    written = read(project, "src/tiny/resources/game_room.py")
    [line] = [line for line in written.splitlines() if line.startswith("ROOM_PREFIX = ")]
    assert ast.literal_eval(line.partition(" = ")[2]) == text
