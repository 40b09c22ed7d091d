"""Invalid answers are rejected in one sentence, and no files are left."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException
from pytest_cookies.plugin import Result

from .support.taken_names import free_names, taken_distributions, taken_modules
from .test_supply_chain import LOCKS, locked

INVALID = {
    "project_name": ["", "  ", "two\nlines", "bell\a", "next\x85line", "line\u2028separator"],
    "project_slug": [
        "",
        "-chat",
        "_chat",
        ".chat",
        "chat.",
        "chat-",
        ".",
        "..",
        "../chat",
        "chat/room",
        "/chat",
        "chat\\room",
        "my chat",
        "chät",
        "chat!",
        "chat\n",
        "con",
        "NUL.txt",
        "x" * 101,
        "x" * 300,
        "falcon",
        "Falcon",
        "pydantic_settings",
        "falcon-pachinko",
        "pip-audit",
        "colorama",
    ],
    "package_name": [
        "",
        "Chat",
        "chat-room",
        "chat.room",
        "chat room",
        "2chat",
        "chät",
        "__main__",
        "class",
        "async",
        "../chat",
        "asyncio",
        "json",
        "test",
        "distutils",
        "compression",
        "tests",
        "__future__",
        "falcon_pachinko",
        "falcon",
        "uvicorn",
        "uvloop",
        "httptools",
        "websockets",
        "msgspec",
        "pydantic",
        "pydantic_settings",
        "jwt",
        "pytest",
        "mypy",
        "ruff",
        "click",
        "h11",
        "dotenv",
        "anyio",
        "redis",
        "sqlalchemy",
        "psycopg",
        "xdist",
        "cyclonedx",
        "nul",
    ],
    "description": ["two\nlines", "tab\tbed"],
    "author_name": ["", " ", "two\nlines"],
    "author_email": ["nobody", "two words@example.com", "a@b@c", "<a@b>", "a@b\n", ".@b", "a@"],
    "resource_name": [
        "",
        "chatRoom",
        "chat_room",
        "Chat_Room",
        "Chat Room",
        "2Chat",
        "Châtroom",
        "Chat-Room",
        "Class",
        "Import",
        "WebSocket",
        "Health",
        "Login",
        "Page",
        "Session",
        "Con",
        "../Chat",
    ],
    "websocket_path": [
        "",
        "/",
        "ws/chat",
        "/ws/",
        "//ws",
        "/ws//chat",
        "/ws/{room}",
        "/ws/}",
        "/ws chat",
        "/ws/chat ",
        "/ws/chät",
        "/ws?x=1",
        "/ws/./chat",
        "/ws/..",
        "/static",
        "/static/chat",
        '/ws"',
        "/ws\n",
    ],
    "room_prefix": [
        "",
        "tab\t",
        "x" * 41,
        "房" * 14,
        "nul\0",
        "\x7f",
        " a",
        "\u0301",
        "e\u0301",
        "\ufeffa",
    ],
}


@pytest.mark.parametrize(
    ("question", "answer"),
    [(question, answer) for question, answers in INVALID.items() for answer in answers],
    ids=lambda text: ascii(text)[1:-1][:40],
)
def test_invalid_answer_is_rejected_in_one_sentence_and_leaves_no_files(
    bake: Callable[..., Result],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    question: str,
    answer: str,
) -> None:
    # The default package name derives from the slug, and would be rejected with it.
    result = bake(**{"package_name": "hello", question: answer})
    assert isinstance(result.exception, FailedHookException)
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.count("\n") == 1, errors
    shown = ascii(answer) if re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", answer) else f"'{answer}'"
    assert f" {shown} cannot be used: give " in errors
    assert errors.endswith(".\n")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"cookies", "cookies/bake00"}


def test_all_invalid_answers_are_reported_together(
    bake: Callable[..., Result], capfd: pytest.CaptureFixture[str]
) -> None:
    bake(package_name="Class", websocket_path="chat", license="MIT")
    assert re.findall(r"'(\w+)' cannot", capfd.readouterr().err) == ["Class", "chat"]


def test_names_of_all_other_resources_are_rejected(root: Path) -> None:
    package = root / "{{cookiecutter.project_slug}}/src/{{cookiecutter.package_name}}"
    modules = {path.stem for path in (package / "resources").glob("[a-z]*.py")}
    hook = (root / "hooks" / "pre_gen_project.py").read_text("utf-8")
    [block] = re.findall(r"RESOURCE_MODULES = frozenset\((.*?)\)", hook, re.DOTALL)
    assert modules == ast.literal_eval(block.strip())


@pytest.mark.timeout(300)
def test_names_of_all_dependencies_are_rejected(root: Path, project_python: Path) -> None:
    assert free_names(root, project_python) == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_names_of_all_locked_dependencies_are_rejected(root: Path, lock: str) -> None:
    names = locked(root / "{{cookiecutter.project_slug}}" / lock).keys()
    assert {"falcon", "async-timeout", "hatchling"} & names
    assert names - taken_distributions(root) == set()


def test_names_of_the_tools_of_a_supply_chain_are_rejected(root: Path) -> None:
    """The test that runs the tools compares the names of what they need."""
    assert {"cyclonedx-bom", "pip-audit", "uv", "colorama"} <= taken_distributions(root)
    assert {"cyclonedx", "cyclonedx_py", "pip_audit", "colorama"} <= taken_modules(root)


@pytest.mark.parametrize(
    ("question", "answer"),
    [("project_slug", "nested/folders/deep"), ("project_slug", "../beside"), ("package_name", "X")],
)
def test_command_line_fails_and_leaves_no_files(
    root: Path, tmp_path: Path, environment: dict[str, str], question: str, answer: str
) -> None:
    folder = tmp_path / "work" / "here"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "cookiecutter", str(root), "--no-input"]
    finished = subprocess.run(
        [*command, f"{question}={answer}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 1
    assert f"'{answer}' cannot be used" in finished.stderr
    assert [path.name for path in (tmp_path / "work").rglob("*")] == ["here"]


@pytest.mark.timeout(300)
def test_an_old_cookiecutter_is_told_the_required_version(
    root: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    """1.7 is the version of Debian 12 and Ubuntu 22.04."""
    run(tmp_path, sys.executable, "-m", "venv", "venv")
    pip = ("venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(tmp_path, *pip, "cookiecutter==1.7.3", "setuptools<80")
    bake = ("venv/bin/python", "-W", "ignore", "-m", "cookiecutter", str(root), "--no-input")
    printed = run(tmp_path, *bake, "-o", "out", status=1)
    assert "This template needs Cookiecutter 2.6 or newer" in printed
    assert "Traceback" not in printed
    assert "cannot be used" not in printed
    assert not list((tmp_path / "out").rglob("*"))
