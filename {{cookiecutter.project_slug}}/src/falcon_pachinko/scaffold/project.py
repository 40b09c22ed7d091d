"""A project that a new resource is written into: what stands in its files, read and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ScaffoldError

ROUTING_METHODS = frozenset({"add_route", "add_websocket_route", "add_sink"})


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        shown: Its path as people know it, below the project.
        lines: Its lines, each with its end.
        tree: What they mean.
    """

    shown: str
    lines: list[str]
    tree: ast.Module

    @classmethod
    def read(cls, root: Path, shown: str) -> Source:
        """Read a file of a project.

        Raises:
            ScaffoldError: It is not there, or no Python.
        """
        try:
            text = (root / shown).read_bytes().decode("utf-8")
            return cls(shown, re.findall(r"[^\n]*\n|[^\n]+", text), ast.parse(text))
        except OSError as error:
            raise ScaffoldError(
                f"{shown} cannot be read ({error.strerror}): a new resource needs it"
            ) from error
        except (SyntaxError, ValueError) as error:
            raise ScaffoldError(f"{shown} is no Python ({error}): mend it first") from error

    @property
    def newline(self) -> str:
        """How its lines end."""
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"

    def bound_names(self) -> set[str]:
        """The names that it defines or imports, at its top level."""
        found: set[str] = set()
        for node in self.tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= {(each.asname or each.name).split(".")[0] for each in node.names}
            else:
                found |= {
                    each.id
                    for each in ast.walk(node)
                    if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
                }
        return found

    def prefixes(self) -> dict[str, str]:
        """The texts of its constants whose names end with ``PREFIX``."""
        found = {}
        for node in self.tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            value = getattr(node, "value", None)
            if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
                continue
            for target in targets:
                if isinstance(target, ast.Name) and target.id.endswith("PREFIX"):
                    found[target.id] = value.value
        return found

    def routes(self) -> Iterator[tuple[str, str]]:
        """What is routed in it: the method that routes, and the path as it is written there."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ROUTING_METHODS | {"add_static_route"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                yield node.func.attr, node.args[0].value

    def last_websocket_route(self) -> tuple[int, int, str] | None:
        """In ``create_app``: the line behind the last route, its indentation, and what it is added to."""
        found = None
        for function in self.tree.body:
            if not isinstance(function, ast.FunctionDef) or function.name != "create_app":
                continue
            for node in function.body:
                if (
                    isinstance(node, ast.Expr)
                    and isinstance(node.value, ast.Call)
                    and isinstance(node.value.func, ast.Attribute)
                    and node.value.func.attr == "add_websocket_route"
                    and isinstance(node.value.func.value, ast.Name)
                ):
                    found = node.end_lineno or 0, node.col_offset, node.value.func.value.id
        return found

    def line_for_import(self, module: str) -> int | None:
        """Behind which line ``from .module import ...`` stands in order; ``None`` without such imports."""
        imports = [
            node for node in self.tree.body if isinstance(node, ast.ImportFrom) and node.level == 1
        ]
        if not imports:
            return None
        earlier = [node for node in imports if natural(node.module or "") < natural(module)]
        return (earlier[-1].end_lineno or 0) if earlier else imports[0].lineno - 1

    def with_lines(self, added: dict[int, str]) -> str:
        """The file with text behind some of its lines."""
        written = []
        for number, line in enumerate(["", *self.lines]):
            written.append(line)
            if number in added:
                if line and not line.endswith("\n"):
                    written.append(self.newline)
                written.append(added[number].replace("\n", self.newline))
        return "".join(written)


def natural(name: str) -> list[tuple[str, int]]:
    """A key that orders names as Ruff orders imports: ``page2`` before ``page10``."""
    return [
        (text, int(number or -1))
        for text, number in re.findall(r"(\D*)(\d*)", name)
        if text or number
    ]


def find_package(root: Path) -> str:
    """The name of the package of the project whose folder this is.

    Raises:
        ScaffoldError: It is no folder of a project.
    """
    found = sorted(path.parent.name for path in root.glob("src/*/app.py"))
    if not (root / "pyproject.toml").is_file() or not found:
        raise ScaffoldError(
            f"{str(root)!r} is no project with a pyproject.toml and a src/.../app.py:"
            " run the command in the folder of the project"
        )
    if len(found) > 1:
        raise ScaffoldError(
            f"src has several packages with an app.py ({', '.join(found)}):"
            " add the resource by hand, as README.md shows"
        )
    return found[0]
