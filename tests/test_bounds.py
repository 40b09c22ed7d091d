"""Bounds on the size of a project and of its files; every module of the framework has its tests."""

import ast
from collections.abc import Callable
from pathlib import Path

# The bounds against hostile clients took 7,000 lines of code, tests and documents; a cluster that heals from any state of
# Redis, with the doctor, records and schedules, took 5,500; identity, from sign-in to moderation, 9,500; links, notes of
# joins and notifications on the page 900; the store of messages, with the past on the page, 3,100; requests that are handled
# once 1,700; changes of stored messages, and the page's part of them, 3,800; several rooms on one connection 3,400, of which
# 1,200 are its part of the contract. Metrics, logs with fields, the drain, hooks and groups took 6,500;
# the Python client, the protocol page and the conformance checks 3,500; locked versions with hashes 1,700; the page of the
# live state 1,500; plain handshakes and frames without websockets' parser 600; joins that wait
# together 250, io_uring 700; what the page keeps of messages under way, of gaps and of the focus 400,
# compressed messages 150, a stop that reaches every process of a supervisor 50.
PROJECT_LINES = 80_700
FRAMEWORK_TEST_LINES = 300
FILE_LINES = 300
PACKAGE_ENTRIES = 30

TEMPLATE = "{{cookiecutter.project_slug}}"
# Written by a tool, or copied from another source.
NOT_SOURCE = {"LICENSE", "MANIFEST", "NOTICE", "py.typed"}
# The client for browsers is one file, so that other programs can copy it; half of its types are generated.
ANY_LENGTH = {"realtime.js", "realtime.d.ts"}


def line_count(path: Path) -> int:
    """The number of lines of a text, 0 for a binary file."""
    content = path.read_bytes()
    return 0 if b"\0" in content else content.count(b"\n")


def test_a_project_is_small(baked: Callable[..., Path], run: Callable[..., str]) -> None:
    project = baked()
    run(project, "git", "init", "--quiet")
    run(project, "git", "add", "--all")
    tracked = [name for name in run(project, "git", "ls-files", "-z").split("\0") if name]
    lines = sum(line_count(project / name) for name in tracked)
    print(f"{lines} lines in {len(tracked)} files")
    assert lines <= PROJECT_LINES


def test_a_project_keeps_few_tests_of_the_framework(root: Path) -> None:
    tests = list((root / TEMPLATE / "tests/framework").rglob("*"))
    assert any(path.name == "use_case_program.py" for path in tests)
    assert sum(line_count(path) for path in tests if path.is_file()) <= FRAMEWORK_TEST_LINES


def test_no_source_file_is_long(root: Path) -> None:
    lines = {
        path.relative_to(root / TEMPLATE / "src").as_posix(): line_count(path)
        for path in (root / TEMPLATE / "src").rglob("*")
        if path.is_file() and path.name not in NOT_SOURCE | ANY_LENGTH
    }
    long = [f"{name} ({count})" for name, count in lines.items() if count > FILE_LINES]
    assert not long, f"longer than {FILE_LINES} lines: {', '.join(sorted(long))}"


def test_the_framework_has_few_entries(root: Path) -> None:
    package = root / TEMPLATE / "src/falcon_pachinko"
    entries = {path.name for path in package.iterdir()} - NOT_SOURCE
    assert "__init__.py" in entries
    assert len(entries) <= PACKAGE_ENTRIES, sorted(entries)


def test_every_module_of_the_framework_has_a_test_module_of_its_name(root: Path) -> None:
    package, tests = root / TEMPLATE / "src/falcon_pachinko", root / "tests/framework"
    missing = []
    for path in sorted(package.rglob("*.py")):
        if path.name == "__init__.py" or only_imports(path):
            continue
        module = path.relative_to(package)
        test_module = module.with_name(f"test_{module.stem.strip('_')}.py")
        if not (tests / test_module).is_file():
            missing.append(test_module.as_posix())
    assert not missing, f"missing in tests/framework: {', '.join(missing)}"


def only_imports(path: Path) -> bool:
    """Return whether a module only offers the names of another one, as a former import path does."""
    for node in ast.parse(path.read_text("utf-8")).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (docstring or names or isinstance(node, (ast.Import, ast.ImportFrom))):
            return False
    return True
