"""``python -m falcon_pachinko new GameRoom``: one more resource for the project that stands here.

It writes ``resources/game_room.py`` with the messages, and ``tests/integration/test_game_room.py``, and
adds the route to ``create_app``. All is checked first, and what fails on the way is undone: the
project is either as it was or complete. It knows how the projects of the template are laid out.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ScaffoldError
from .blueprint import Blueprint, import_line, snake_case, string_literal
from .naming import check_name, check_prefix, check_route, fields_of, free_prefix
from .project import Source, find_package

# How long the project may take to describe itself.
CONTRACT_SECONDS = 60.0

# What the new files import, by the file that has it.
NEEDED = {
    "auth.py": {"COOKIE_NAME", "User", "issue_token"},
    "messages.py": {"BAD_ROOM_NAME", "CLOSE_CODES", "NOT_SIGNED_IN", "Text", "UserName"},
}
NEEDED_FIXTURES = {"chat", "secret"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``new`` to those of the command line."""
    parser = commands.add_parser(
        "new",
        help="write one more WebSocket resource, with its messages, its tests and its route",
        description="Write one more WebSocket resource, with its messages, its tests and its route."
        " Run it in the folder of the project.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name", help="in CamelCase: GameRoom gives GameRoomResource in game_room.py"
    )
    parser.add_argument(
        "--path", help="where clients connect; for GameRoom: /ws/game-room/{game_room_name}"
    )
    parser.add_argument(
        "--prefix",
        help="what its rooms' names begin with, inside the server; for GameRoom: game_room:",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and write nothing"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Do what ``new`` was asked for in the current folder; return the exit status."""
    try:
        plan = make_plan(Path.cwd(), given.name, given.path, given.prefix)
        if given.dry_run:
            sys.stdout.write(plan.difference())
            return 0
        plan.carry_out()
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True)
class Plan:
    """What is going to be written, checked.

    Attributes:
        root: The project's folder.
        blueprint: The new resource.
        texts: What each file, by its path below the project, is going to hold.
    """

    root: Path
    blueprint: Blueprint
    texts: dict[str, str]

    def difference(self) -> str:
        """All changes as a unified diff."""
        found: list[str] = []
        for shown, text in self.texts.items():
            path = self.root / shown
            old = path.read_bytes().decode("utf-8") if path.exists() else ""
            found += difflib.unified_diff(
                old.splitlines(keepends=True),
                text.splitlines(keepends=True),
                f"a/{shown}" if old else "/dev/null",
                f"b/{shown}",
            )
        return "".join(found)

    def carry_out(self) -> None:
        """Write the files, and what others read of the contract where its tools are installed; say which.

        Raises:
            ScaffoldError: Something went wrong, and everything is as it was.
        """
        package = self.blueprint.package
        contract_files = ("asyncapi.yaml", f"src/{package}/web/realtime.d.ts")
        paths = [self.root / shown for shown in (*self.texts, *contract_files)]
        before = {path: path.read_bytes() if path.exists() else None for path in paths}
        said = []
        try:
            for shown, text in self.texts.items():
                path = self.root / shown
                said.append(f"{'wrote' if before[path] is None else 'changed'} {shown}")
                path.write_bytes(text.encode())
            said.append(write_contract(self.root, package))
        except BaseException as error:
            restore(before)
            if not isinstance(error, (OSError, ScaffoldError)):
                raise
            raise ScaffoldError(
                f"{error}: nothing has been changed; mend that, then run the command again"
            ) from error
        print(*said, f"clients connect at {self.blueprint.path}: make check test", sep="\n")


def write_contract(root: Path, package: str) -> str:
    """Let the project describe itself anew; return what to tell about it.

    Raises:
        ScaffoldError: The project does not work with what has been written.
    """
    module = root / "src" / package / "contract_files.py"
    if not module.exists() or importlib.util.find_spec("yaml") is None:
        return "asyncapi.yaml is out of date, and PyYAML is not installed: make asyncapi"
    command = [sys.executable, "-m", f"{package}.contract_files"]
    try:
        finished = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=CONTRACT_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ScaffoldError(
            f"{' '.join(command[1:])} took longer than {CONTRACT_SECONDS:g} s"
        ) from error
    if finished.returncode:
        *_, reason = finished.stderr.strip().splitlines() or [f"status {finished.returncode}"]
        raise ScaffoldError(f"the service cannot be described with the new resource ({reason})")
    return finished.stdout.strip() or "asyncapi.yaml says so already"


def restore(before: dict[Path, bytes | None]) -> None:
    """Give files back what they held, and remove those that were not there."""
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def make_plan(root: Path, name: str, path: str | None, prefix: str | None) -> Plan:
    """Check everything that can be checked, and make up the new texts.

    Args:
        root: The project's folder.
        name: In CamelCase, without ``Resource`` at its end.
        path: The URI template; made of the name where there is none.
        prefix: What its rooms are named with in front; made of the name where there is none.

    Raises:
        ScaffoldError: It cannot be done, and why.
    """
    package = find_package(root)
    check_name(name)
    module = snake_case(name)
    if path is None:
        path = f"/ws/{module.replace('_', '-')}/{{{module}_name}}"
    fields = fields_of(path)

    source = f"src/{package}"
    app = Source.read(root, f"{source}/app.py")
    resource_file = f"{source}/resources/{module}.py"
    test_file = f"tests/integration/test_{module}.py"
    sources = [
        Source.read(root, each.relative_to(root).as_posix())
        for each in sorted((root / source).rglob("*.py"))
    ]
    check_free(root, name, (resource_file, test_file), sources)
    check_needed(root, source)
    check_route(path, [route for each in sources for route in each.routes()])
    taken = {
        value: f"{constant} in {each.shown}"
        for each in sources
        if "/resources/" in each.shown
        for constant, value in each.prefixes().items()
    }
    prefix = free_prefix(module, taken) if prefix is None else check_prefix(prefix, taken)
    blueprint = Blueprint(package, name, path, fields, prefix)
    return Plan(
        root,
        blueprint,
        {
            resource_file: blueprint.resource(),
            test_file: blueprint.tests(),
            app.shown: with_route(app, blueprint, line_length_of(root)),
        },
    )


def check_free(root: Path, name: str, files: Iterable[str], sources: Iterable[Source]) -> None:
    """Whether nobody has the class or the files.

    Raises:
        ScaffoldError: Somebody has.
    """
    for shown in files:
        for path in (root / shown, (root / shown).with_suffix("")):
            if path.exists() or path.is_symlink():
                raise ScaffoldError(
                    f"{path.relative_to(root).as_posix()} is there already: give another name than {name!r}"
                )
        if not (root / shown).parent.is_dir():
            raise ScaffoldError(
                f"the folder {Path(shown).parent.as_posix()} is missing: make it, then try again"
            )
    for source in sources:
        for taken in (f"{name}Resource", f"Tell{name}", f"Server{name}Told"):
            if taken in source.bound_names():
                raise ScaffoldError(
                    f"{source.shown} has a {taken} already: give another name than {name!r}"
                )


def check_needed(root: Path, source: str) -> None:
    """Whether the project has what the new files import.

    Raises:
        ScaffoldError: It has not.
    """
    needed = {f"{source}/{file}": names for file, names in NEEDED.items()}
    for shown, names in {**needed, "tests/conftest.py": NEEDED_FIXTURES}.items():
        missing = sorted(names - Source.read(root, shown).bound_names())
        if missing:
            raise ScaffoldError(
                f"{shown} has no {' and no '.join(missing)}, which a new resource needs: define what is"
                " missing, or add the resource by hand, as README.md shows"
            )


def with_route(app: Source, blueprint: Blueprint, line_length: int) -> str:
    """The text of ``app.py`` with the new route behind the last one.

    Raises:
        ScaffoldError: There is no place for it.
    """
    module = f"resources.{blueprint.module}"
    import_behind, route = app.line_for_import(module), app.last_websocket_route()
    if import_behind is None or route is None:
        raise ScaffoldError(
            f"{app.shown} adds no WebSocket route in create_app, behind which the new one would stand:"
            " add the resource by hand, as README.md shows"
        )
    route_behind, indentation, application = route
    lines = (
        f"{application}.add_websocket_route(",
        f"    {string_literal(blueprint.path)},",
        f"    {blueprint.name}Resource,",
        ")",
    )
    return app.with_lines(
        {
            import_behind: import_line(f".{module}", [f"{blueprint.name}Resource"], line_length)
            + "\n",
            route_behind: "".join(f"{' ' * indentation}{line}\n" for line in lines),
        }
    )


def line_length_of(root: Path) -> int:
    """How long lines may be, as the project tells Ruff.

    Raises:
        ScaffoldError: ``pyproject.toml`` is no TOML.
    """
    try:
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        return int(settings["tool"]["ruff"]["line-length"])
    except KeyError:
        return 88  # Ruff's own default
    except (OSError, ValueError, TypeError) as error:
        raise ScaffoldError(f"pyproject.toml cannot be read ({error}): mend it first") from error
