"""``python -m falcon_pachinko new GameRoom``: write a resource, its tests and route, or nothing."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.util
import subprocess
import symtable
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from ..errors import ScaffoldError
from .new_resource import check_name, check_route, choose_prefix, fields_of, render, snake_case

BY_HAND = "add the resource by hand, as docs/guide.md shows"
ROUTING_METHODS = {"add_route", "add_websocket_route", "add_sink", "add_static_route"}


def run(given: argparse.Namespace) -> int:
    """Run ``new`` in the current folder, the project's, and return the exit status."""
    module, path = snake_case(given.name), given.path
    if path is None:
        path = f"/ws/{module.replace('_', '-')}/{{{module}_name}}"
    try:
        package = find_package()
        texts = plan(package, given.name, path, given.prefix)
        lines = [*difference(texts)] if given.dry_run else write(package, texts, path)
    except (ScaffoldError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.writelines(lines)
    return 0


def find_package() -> Path:
    """Return the folder of the project's package."""
    try:
        tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        advice = "fix it, or run the command in the folder of the project"
        raise ScaffoldError(f"pyproject.toml cannot be read ({error}): {advice}") from error
    packages = {each.parent for each in Path().glob("src/*/app.py")} - {Path("src/falcon_pachinko")}
    if len(packages) != 1:
        raise ScaffoldError(f"src has {len(packages)} packages with an app.py, not one: {BY_HAND}")
    return packages.pop()


def parse(file: Path) -> tuple[str, ast.Module, set[str]]:
    """Return the text, the syntax tree and the names at the top level of a Python file."""
    try:
        text = file.read_bytes().decode()
        names = symtable.symtable(text, file.name, "exec").get_identifiers()
        return text, ast.parse(text), set(names)
    except (OSError, SyntaxError, ValueError) as error:
        raise ScaffoldError(f"{file.as_posix()} cannot be read ({error}): fix it first") from error


def plan(package: Path, name: str, path: str, prefix: str | None) -> dict[Path, str]:
    """Check the arguments against the project; return the new text of each file."""
    check_name(name)
    module, fields, advice = snake_case(name), fields_of(path), f"give another name than {name!r}"
    files = [package / f"resources/{module}.py", Path(f"tests/integration/test_{module}.py")]
    for file in (*files, *(file.with_suffix("") for file in files)):
        if file.exists() or file.is_symlink():
            raise ScaffoldError(f"{file.as_posix()} exists already: {advice}")
    needed = {
        package / "users.py": "User",
        package / "messages.py": "BAD_ROOM_NAME CLOSE_CODES NOT_SIGNED_IN",
        package / "message_fields.py": "Text UserId UserName",
        Path("tests/conftest.py"): "chat headers_of",
    }
    for file, names in needed.items():
        if missing := sorted(set(names.split()) - parse(file)[2]):
            raise ScaffoldError(f"{file.as_posix()} has no {' and no '.join(missing)}: {BY_HAND}")
    routes, prefixes = [], {}
    for file in sorted(package.rglob("*.py")):
        _, tree, taken = parse(file)
        for each in {f"{name}Resource", f"Tell{name}", f"Server{name}Told"} & taken:
            raise ScaffoldError(f"{file.as_posix()} has a {each} already: {advice}")
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(attr=method), [ast.Constant(str(text)), *_]):
                    if method in ROUTING_METHODS:
                        routes.append((method, text))
                case ast.Assign([ast.Name(constant), *_], ast.Constant(str(text))) | ast.AnnAssign(
                    ast.Name(constant), value=ast.Constant(str(text))
                ):
                    if constant.endswith("PREFIX") and "/resources/" in file.as_posix():
                        prefixes[text] = f"{constant} in {file.as_posix()}"
    check_route(path, routes)
    texts = render(package.name, name, path, fields, choose_prefix(prefix, module, prefixes))
    app = package / "app.py"
    changed = {**dict(zip(files, texts, strict=True)), app: with_route(app, name, path)}
    return {file: tidy(file, text) for file, text in changed.items()}


def with_route(app: Path, name: str, path: str) -> str:
    """Return the text with a route after the last one of ``create_app``, and with its import."""
    text, tree, _ = parse(app)
    newline = "\r\n" if text.count("\r\n") == text.count("\n") else "\n"
    lines, added = text.split(newline), dict[int, list[str]]()
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    for step in (step for each in functions if each.name == "create_app" for step in each.body):
        match step:
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(variable), "add_websocket_route"))):
                indent = lines[step.lineno - 1][: step.col_offset]
                call = f'{variable}.add_websocket_route(|    "{path}",|    {name}Resource,|)'
                added = {step.end_lineno or 0: [indent + line for line in call.split("|")]}
    imports = [each for each in tree.body if isinstance(each, ast.ImportFrom) and each.level == 1]
    if not imports or not added:
        raise ScaffoldError(f"{app.as_posix()} adds no WebSocket route in create_app: {BY_HAND}")
    import_line = f"from .resources.{snake_case(name)} import {name}Resource"
    added[imports[-1].end_lineno or 0] = [import_line]
    for end in sorted(added, reverse=True):
        lines[end:end] = added[end]
    return newline.join(lines)


def tidy(file: Path, text: str) -> str:
    """Return the text with sorted imports, and a new one formatted; unchanged without Ruff."""
    commands = ["check --fix-only --select I"]
    if not file.exists():
        commands = ["check --fix-only --select I,F401", "format"]
    for command in commands if importlib.util.find_spec("ruff") else ():
        options = [*command.split(), "--no-cache", "--quiet", "--stdin-filename", str(file), "-"]
        text = run_module("ruff", *options, stdin=text)
    return text


def run_module(*arguments: str, stdin: str = "") -> str:
    """Run a module of the environment and return its output."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, timeout=60)
    if done.returncode:
        *_, reason = done.stderr.decode(errors="replace").splitlines() or [str(done.returncode)]
        raise ScaffoldError(f"{arguments[0]} fails with the new resource ({reason.strip()})")
    return done.stdout.decode(errors="replace")


def difference(texts: dict[Path, str]) -> Iterator[str]:
    """Yield the lines of a unified diff."""
    for file, text in texts.items():
        old = file.read_bytes().decode() if file.exists() else ""
        names = f"a/{file.as_posix()}" if old else "/dev/null", f"b/{file.as_posix()}"
        yield from difflib.unified_diff(old.splitlines(True), text.splitlines(True), *names)


def write(package: Path, texts: dict[Path, str], path: str) -> list[str]:
    """Write the files and the contract, or restore all of them; return the lines to print."""
    files = [*texts, Path("asyncapi.yaml"), package / "web/realtime.d.ts"]
    before = {file: file.read_bytes() if file.exists() else None for file in files}
    lines = []
    try:
        for file, text in texts.items():
            file.write_bytes(text.encode())
            lines.append(f"{'changed' if before[file] else 'wrote'} {file.as_posix()}\n")
        if (package / "contract_files.py").exists() and importlib.util.find_spec("yaml"):
            lines += run_module(f"{package.name}.contract_files").splitlines(keepends=True)
        else:
            lines.append("asyncapi.yaml is out of date, it takes PyYAML to write: make asyncapi\n")
    except BaseException as error:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            elif not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)
        if isinstance(error, (OSError, ScaffoldError, subprocess.TimeoutExpired)):
            raise ScaffoldError(f"{error}: nothing has been changed") from error
        raise
    if not importlib.util.find_spec("ruff"):
        lines.append("the new files are not formatted, Ruff is not installed: make format\n")
    return [*lines, f"clients connect at {path}: make check test\n"]
