"""Projects of combined answers: every pair of answers to two questions occurs in one of them."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
import yaml
from pytest_cookies.plugin import Result

VARIABLES = json.loads((Path(__file__).parent.parent / "cookiecutter.json").read_text("utf-8"))

TEMPLATE = "{{cookiecutter.project_slug}}"

# Answers of every kind for each question; the choices come from cookiecutter.json.
ANSWERS: dict[str, list[str]] = {
    "project_name": ["Chat Service", 'the "best" \\ chat', "聊天室 😀", "x", "Name " * 10 + "!"],
    "project_slug": [
        "chat-service",
        "A.b_C-9",
        "x",
        "a-folder-with-a-name-of-some-fifty-characters-in-all",
    ],
    "package_name": [
        "chat_service",
        "a",
        "zzz_late",
        "aaa_early",
        "a_package_with_a_name_of_some_fifty_characters_here",
    ],
    "description": ["A chat.", "", '- yes: {it\'s} #"odd" \\', "דברו איתנו"],
    "author_name": ["Your Name", "Ada 'Zoë' \"Ω\" & Sons"],
    "author_email": ["you@example.com", " ", "adä@exämple.com"],
    "resource_name": [
        "ChatRoom",
        "X",
        "On",
        "HTTPServer2",
        "ResourceWithANameOfSomeFiftyCharactersInAllOfIt",
    ],
    "websocket_path": ["/ws/chat", "/x", "/live/v1.0/~rooms", "/docs"],
    "room_prefix": ["chat_", "'\"\\ 房间 ", '""', "x"],
    "python_version": VARIABLES["python_version"],
    "license": VARIABLES["license"],
}

BOUND_SECONDS = 1200
HOOKS = 9
JINJA = re.compile(rb"\{%|\{#|cookiecutter\.[a-z_]|(?<!\$)\{\{ ?[a-z_]")
WINDOWS_FORBIDS = re.compile(r'[<>:"\\|?*\x00-\x1f]|[ .]$')
WINDOWS_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
PARSERS: dict[str, Callable[[str], object]] = {
    ".json": json.loads,
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}


def pairwise(answers: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Yield few combinations that cover all pairs of answers (greedy, deterministic)."""

    def pairs(combination: Iterable[tuple[str, str]]) -> set[frozenset[tuple[str, str]]]:
        return {frozenset(pair) for pair in itertools.combinations(combination, 2)}

    kinds = [[(question, answer) for answer in given] for question, given in answers.items()]
    missing = {
        frozenset(pair): None
        for first, second in itertools.combinations(kinds, 2)
        for pair in itertools.product(first, second)
    }
    while missing:
        chosen = dict(sorted(next(iter(missing))))
        for given in kinds:
            if given[0][0] not in chosen:
                gain = {
                    each: len(pairs([*chosen.items(), each]) & missing.keys()) for each in given
                }
                question, answer = max(given, key=gain.__getitem__)
                chosen[question] = answer
        for pair in pairs(chosen.items()):
            missing.pop(pair, None)
        yield {question: chosen[question] for question in answers}


COMBINATIONS = list(pairwise(ANSWERS))


def expected_files(root: Path, answers: dict[str, str], module: str) -> set[str]:
    """Return the template's files under their rendered names, and the file of the hook."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", TEMPLATE],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.split("\0")
    names = {name.removeprefix(f"{TEMPLATE}/") for name in listed if name}
    return {".env"} | {
        name.replace("{{cookiecutter.package_name}}", answers["package_name"]).replace(
            "{{cookiecutter.__resource_module}}", module
        )
        for name in names
    }


def is_copied(name: str) -> bool:
    """Whether Cookiecutter copies a file as it is: in its patterns an asterisk matches a slash, too."""
    path = PurePosixPath(name)
    return any(
        fnmatch(str(each), pattern)
        for each in (path, *path.parents)
        for pattern in VARIABLES["_copy_without_render"]
    )


def test_every_question_has_answers() -> None:
    assert list(ANSWERS) == [name for name in VARIABLES if not name.startswith("_")]


def test_combinations_cover_all_pairs_of_answers() -> None:
    for first, second in itertools.combinations(ANSWERS, 2):
        met = {(each[first], each[second]) for each in COMBINATIONS}
        assert met == set(itertools.product(ANSWERS[first], ANSWERS[second])), (first, second)


@pytest.mark.slow
@pytest.mark.parametrize("answers", COMBINATIONS, ids=range(len(COMBINATIONS)))
def test_combination_gives_a_clean_project(
    bake: Callable[..., Result], root: Path, answers: dict[str, str]
) -> None:
    result = bake(**answers)
    assert result.exception is None, result.exception
    project: Path = result.project_path
    assert project.name == answers["project_slug"]
    paths = {
        path.relative_to(project).as_posix(): path for path in project.rglob("*") if path.is_file()
    }
    assert paths.keys() == expected_files(root, answers, result.context["__resource_module"])
    for name, path in paths.items():
        for part in PurePosixPath(name).parts:
            assert not WINDOWS_FORBIDS.search(part), name
            assert part.partition(".")[0].lower() not in WINDOWS_DEVICES, name
        content = path.read_bytes()
        assert is_copied(name) or not JINJA.search(content), name
        assert b"\r" not in content, name
        assert not content or re.search(rb"[^\n]\n\Z", content), f"{name} ends without one newline"
        text = content.decode("utf-8")
        if parse := PARSERS.get(path.suffix):
            assert parse(text), name
    for command in (("check",), ("format", "--diff")):
        finished = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stdout


@pytest.mark.timeout(BOUND_SECONDS)
def test_first_commit_of_every_combination_passes_its_hooks_unchanged(
    baked: Callable[..., Path], run: Callable[..., str], project_python: Path, tmp_path: Path
) -> None:
    pre_commit = (".venv/bin/python", "-m", "pre_commit", "run", "--all-files")
    # Of the answers, only the version changes types.
    checked: set[str] = set()
    for answers in COMBINATIONS:
        project = baked(**answers)
        run(project, "git", "init", "--quiet")
        # One environment for all projects, whose name is not that of a folder for git.
        (project / ".venv").symlink_to(project_python.parents[1])
        run(project, "git", "add", "--all", ":!.venv")
        version = answers["python_version"]
        skipped = "mypy" if version in checked else ""
        checked.add(version)
        printed = run(project, *pre_commit, PRE_COMMIT_HOME=tmp_path / "hooks", SKIP=skipped)
        assert printed.count("Passed") == HOOKS - bool(skipped), printed
        assert run(project, "git", "diff", "--name-only") == ""
        assert ".env" not in run(project, "git", "ls-files").splitlines()
        shutil.rmtree(project)
