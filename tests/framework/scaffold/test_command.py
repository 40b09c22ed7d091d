"""A new resource is written as a whole, in order and in style, or refused in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from falcon_pachinko.__main__ import main
from falcon_pachinko.scaffold.blueprint import (
    Blueprint,
    Field,
    import_line,
    snake_case,
    string_literal,
)
from falcon_pachinko.scaffold.naming import fields_of, free_prefix, paths_overlap
from falcon_pachinko.scaffold.project import natural

APP = '''\
"""The map of the program."""

import falcon.asgi

from .auth import AuthMiddleware
from .resources.chat import (
    ROOM_PREFIX,
    ChatResource,
)
from .resources.page import PageResource  # the page

# What is read from the environment.
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
    "src/tiny/app.py": APP,
    "src/tiny/auth.py": "COOKIE_NAME = 'session'\nclass User: ...\ndef issue_token(): ...\n",
    "src/tiny/messages.py": "Text = UserName = str\nBAD_ROOM_NAME, NOT_SIGNED_IN = 1, 2\nCLOSE_CODES = {}\n",
    "src/tiny/resources/__init__.py": "",
    "src/tiny/resources/chat.py": "ROOM_PREFIX = 'chat_'\nclass ChatResource: ...\n",
    "src/tiny/resources/page.py": "class PageResource: ...\nclass TellTales: ...\n",
    "tests/conftest.py": "def chat(): ...\ndef secret(): ...\n",
    "tests/integration/test_http.py": "",
}
# A project's own description of itself, of which only the end matters here.
DESCRIBING = """
import pathlib, sys
pathlib.Path("asyncapi.yaml").write_text("new")
print("wrote asyncapi.yaml")
sys.exit({status})
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the command asks of a project, and the one that it runs in."""
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


def test_it_writes_the_resource_and_its_tests_and_adds_the_route(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(project)
    assert main(["new", "GameRoom", "--path", "/ws/games/{game_id}"]) == 0
    after = content_of(project)
    resource, tests = "src/tiny/resources/game_room.py", "tests/integration/test_game_room.py"
    assert after.keys() - before.keys() == {resource, tests}
    assert [name for name in before if before[name] != after[name]] == ["src/tiny/app.py"]
    told = capsys.readouterr().out
    for line in (f"wrote {resource}", f"wrote {tests}", "changed src/tiny/app.py"):
        assert line in told.splitlines()
    # There is nothing here that could describe the project, so it says who has to.
    assert "make asyncapi" in told
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
    assert "        game_id: GameId,\n" in written
    assert '@handles_message("clientTellGameRoom")' in written
    for text in (written, after[tests].decode()):
        compile(text, "written", "exec")


def test_without_a_path_it_takes_one_that_the_name_gives(project: Path) -> None:
    assert main(["new", "GameRoom"]) == 0
    app = (project / "src/tiny/app.py").read_text(encoding="utf-8")
    assert '"/ws/game-room/{game_room_name}",\n        GameRoomResource,' in app


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("Alpha", "from .auth", "from .resources.chat"),
        ("Cheese", "from .resources.chat", "from .resources.page"),
        ("Zoo", "from .resources.page", "# What is read"),
    ],
)
def test_the_import_stands_in_order(project: Path, name: str, before: str, after: str) -> None:
    assert main(["new", name]) == 0
    app = (project / "src/tiny/app.py").read_text(encoding="utf-8")
    imported = f"from .resources.{name.lower()} import {name}Resource\n"
    assert app.index(before) < app.index(imported) < app.index(after)


def test_lines_end_as_they_did(project: Path) -> None:
    app = project / "src/tiny/app.py"
    app.write_bytes(APP.replace("\n", "\r\n").encode())
    assert main(["new", "GameRoom"]) == 0
    written = app.read_bytes()
    assert written.count(b"\n") == written.count(b"\r\n") > APP.count("\n")


def test_a_second_one_goes_behind_the_first_and_the_same_one_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "GameRoom"]) == 0
    assert main(["new", "Arena"]) == 0
    app = (project / "src/tiny/app.py").read_text(encoding="utf-8")
    assert app.index("        GameRoomResource,") < app.index("        ArenaResource,")
    capsys.readouterr()
    before = content_of(project)
    assert main(["new", "GameRoom", "--path", "/elsewhere"]) == 1
    assert "game_room.py is there already: give another name than 'GameRoom'" in (
        capsys.readouterr().err
    )
    assert content_of(project) == before


def test_a_dry_run_shows_all_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(project)
    assert main(["new", "GameRoom", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "+from .resources.game_room import GameRoomResource\n" in shown
    assert "--- /dev/null\n+++ b/src/tiny/resources/game_room.py\n" in shown
    assert "+++ b/tests/integration/test_game_room.py\n" in shown
    assert content_of(project) == before


REFUSED: dict[str, tuple[list[str], str]] = {
    "lower case": (["gameRoom"], "'gameRoom'"),
    "an underscore": (["Game_Room"], "'Game_Room'"),
    "no ASCII": (["Jäger"], "'Jäger'"),
    "half a character": (["A\udcff"], r"'A\udcff'"),
    "a line end": (["Game\n"], r"'Game\n'"),
    "an empty name": ([""], "''"),
    "a long name": (["G" * 33], "G" * 33),
    "a keyword": (["Class"], "'Class'"),
    "a constant": (["None"], "'None'"),
    "a device": (["Con"], "'Con'"),
    "the base class": (["WebSocket"], "WebSocketResource"),
    "Resource": (["GameRoomResource"], "give GameRoom"),
    "only Resource": (["Resource"], "'Resource'"),
    "a module that is taken": (["Page"], "src/tiny/resources/page.py is there already"),
    "a test that is taken": (["Http"], "tests/integration/test_http.py is there already"),
    "a class that is taken": (["Tales"], "src/tiny/resources/page.py has a TellTales already"),
    "no slash": (["Game", "--path", "games"], "'games'"),
    "an empty path": (["Game", "--path", ""], "''"),
    "a slash at the end": (["Game", "--path", "/games/"], "'/games/'"),
    "two slashes": (["Game", "--path", "//games"], "'//games'"),
    "a dot": (["Game", "--path", "/a/../b"], "'..'"),
    "a blank": (["Game", "--path", "/a b"], "'a b'"),
    "a quote": (["Game", "--path", '/a"b'], "'a\"b'"),
    "a field in a part": (["Game", "--path", "/a-{b}"], "'a-{b}'"),
    "an open field": (["Game", "--path", "/{b"], "'{b'"),
    "no identifier": (["Game", "--path", "/{game-id}"], "'game-id'"),
    "a digit first": (["Game", "--path", "/{1st}"], "'1st'"),
    "a private field": (["Game", "--path", "/{__id}"], "'__id'"),
    "an empty field": (["Game", "--path", "/{}"], "''"),
    "a keyword as field": (["Game", "--path", "/{class}"], "'class'"),
    "a field of on_connect's": (["Game", "--path", "/{ws}"], "'ws'"),
    "a field twice": (["Game", "--path", "/{a}/{a}"], "'a' twice"),
    "an unknown converter": (["Game", "--path", "/{a:dt}"], "'dt'"),
    "a path that is taken": (["Game", "--path", "/ws/chat/{room_name}"], "taken by"),
    "its own default path": (["Chat2", "--path", "/ws/chat/{other}"], "taken by '/ws/chat/{room_"),
    "another's room": (["Game", "--path", "/ws/chat/lobby"], "taken by '/ws/chat/{room_name}'"),
    "a path around another's": (["Game", "--path", "/ws/{kind}/{name}"], "taken by"),
    "the page's path": (["Game", "--path", "/{name}"], "taken by '/'"),
    "a static path": (["Game", "--path", "/static/games"], "taken by '/static'"),
    "what Falcon cannot": (["Game", "--path", "/ws/chat/{other}/moves"], "cannot be served beside"),
    "a prefix that is taken": (["Game", "--prefix", "chat_"], "'chat_' (ROOM_PREFIX in src/tiny/"),
    "a longer prefix": (["Game", "--prefix", "chat_2"], "'chat_2'"),
    "a shorter prefix": (["Game", "--prefix", "ch"], "'ch'"),
    "an empty prefix": (["Game", "--prefix", ""], "''"),
    "a long prefix": (["Game", "--prefix", "é" * 21], "é" * 21),
    "a control character": (["Game", "--prefix", "a\tb"], r"'a\tb'"),
    "half a prefix": (["Game", "--prefix", "\ud800"], r"'\ud800'"),
}


@pytest.mark.parametrize(("arguments", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence_and_nothing_is_changed(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    if says == "taken by '/'":
        app = project / "src/tiny/app.py"
        app.write_text(APP.replace('"/"', '"/{page}"'), encoding="utf-8")
        says = "taken by '/{page}'"
    before = content_of(project)
    assert main(["new", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert says in line
    assert ": " in line, "it says the next step"
    assert content_of(project) == before


BROKEN: dict[str, tuple[str, str, str, str]] = {
    "no route": (
        "src/tiny/app.py",
        "service.add_websocket_route",
        "print",
        "adds no WebSocket route",
    ),
    "no imports": ("src/tiny/app.py", "from .", "from x.", "adds no WebSocket route"),
    "no Python": ("src/tiny/app.py", "def create_app(", "def create_app", "mend it first"),
    "no close code": ("src/tiny/messages.py", "BAD_ROOM_NAME", "BAD", "has no BAD_ROOM_NAME"),
    "no user": ("src/tiny/auth.py", "User", "Person", "has no User"),
    "no fixture": ("tests/conftest.py", "chat", "talk", "tests/conftest.py has no chat"),
    "no TOML": ("pyproject.toml", "[tool", "tool", "pyproject.toml cannot be read"),
}


@pytest.mark.parametrize(("file", "found", "put", "says"), BROKEN.values(), ids=BROKEN)
def test_a_project_that_lacks_something_is_told_so(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    found: str,
    put: str,
    says: str,
) -> None:
    changed = (project / file).read_text(encoding="utf-8").replace(found, put)
    (project / file).write_text(changed, encoding="utf-8")
    before = content_of(project)
    assert main(["new", "GameRoom"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert content_of(project) == before


def test_outside_a_project_it_says_where_to_go(
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
def test_wrong_usage_has_a_status_of_its_own(project: Path, arguments: list[str]) -> None:
    before = content_of(project)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert content_of(project) == before


@pytest.mark.parametrize("written", [0, 1, 2])
def test_what_fails_while_it_writes_is_undone(
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
def test_the_project_describes_itself_and_all_is_undone_where_it_cannot(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    pytest.importorskip("yaml")
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    describing = project / "src/tiny/contract_files.py"
    describing.write_text(DESCRIBING.format(status=status), encoding="utf-8")
    (project / "asyncapi.yaml").write_text("old", encoding="utf-8")
    before = content_of(project)
    assert main(["new", "GameRoom"]) == status
    if status:
        assert content_of(project) == before
        assert "the service cannot be described" in capsys.readouterr().err
    else:
        assert (project / "asyncapi.yaml").read_text(encoding="utf-8") == "new"
        assert "wrote asyncapi.yaml" in capsys.readouterr().out.splitlines()


def test_what_is_written_is_formatted_whatever_the_names(tmp_path: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    if subprocess.run([*ruff, "--version"], capture_output=True, timeout=30).returncode:
        pytest.skip("ruff is not installed")
    long_field = "f" * 32
    long_pair = f"/{{{long_field}}}/{{{'u' * 32}:uuid}}"
    paths = ["/x", "/{a}", "/{a:int}", "/{a:uuid}/{user}", f"/{{{long_field}}}/{{text}}/{{Tell}}"]
    paths += [long_pair, f"{long_pair}/{{{'v' * 32}:int}}"]
    for number, path in enumerate(paths):
        for name in ("A", "HTTPRoom2", "G" * 32):
            for package in ("p", "q" * 60):
                made = Blueprint(package, name, path, fields_of(path), "'\"\\")
                stem = f"{number}_{name}_{len(package)}"
                (tmp_path / f"{stem}.py").write_text(made.resource(), encoding="utf-8")
                (tmp_path / f"test_{stem}.py").write_text(made.tests(), encoding="utf-8")
    (tmp_path / "ruff.toml").write_text(
        'line-length = 100\nlint.select = ["E4", "E7", "E9", "F", "W", "I", "UP", "B", "PT", "RUF"]\n'
        'lint.isort.known-first-party = ["p", "qq*"]\n'
        'lint.isort.section-order = ["future", "standard-library", "third-party", "framework",'
        ' "first-party", "local-folder"]\n[lint.isort.sections]\nframework = ["falcon_pachinko"]\n',
        encoding="utf-8",
    )
    for command in (["format", "--diff"], ["check"]):
        finished = subprocess.run(
            [*ruff, *command, "--no-cache", "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("name", "module"),
    [("GameRoom", "game_room"), ("A", "a"), ("HTTPRoom", "http_room"), ("Room2Go", "room2_go")],
)
def test_a_module_is_named_after_its_resource(name: str, module: str) -> None:
    assert snake_case(name) == module


def test_imports_with_numbers_are_in_the_order_of_people() -> None:
    names = ["pages", "page10b", "page2", "page_a", "page10", "page"]
    assert sorted(names, key=natural) == ["page", "page2", "page10", "page10b", "page_a", "pages"]


def test_an_import_that_does_not_fit_is_opened() -> None:
    assert import_line("a", ["B", "C"], 20) == "from a import B, C"
    assert import_line("a", ["B", "C"], 17) == "from a import (\n    B,\n    C,\n)"


@pytest.mark.parametrize(
    "text", ["plain", "it's", 'the "best"', "'\"", "back\\slash", "\\'", "é😀"]
)
def test_a_literal_is_the_text_that_it_stands_for(text: str) -> None:
    assert eval(string_literal(text)) == text


@pytest.mark.parametrize(
    ("taken", "prefix"),
    [
        ([], "game:"),
        (["chat_"], "game:"),
        (["g"], "room:game:"),
        (["game:x", "room"], "ws:game:"),
        (["g", "r", "w"], "a:game:"),
    ],
)
def test_a_prefix_is_found_that_begins_like_no_other(taken: list[str], prefix: str) -> None:
    assert free_prefix("game", dict.fromkeys(taken, "somewhere")) == prefix


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a", "/a/b", False),
        ("/a/{b}", "/a/c", True),
        ("/{a}/b", "/c/{d}", True),
        ("/{a}/b", "/c/d", False),
        ("/a/b/c", "/a/{rest:path}", True),
        ("/b/b/c", "/a/{rest:path}", False),
    ],
)
def test_paths_overlap_where_one_address_belongs_to_both(
    one: str, other: str, overlap: bool
) -> None:
    assert paths_overlap(one, other) is overlap


def test_fields_have_their_converters() -> None:
    assert fields_of("/ws/{team}/{number:int}") == (Field("team", ""), Field("number", "int"))
