"""The layering rule of the framework, its cycles, and its public names.

The rule is written in the documentation of the framework, and read from there.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import falcon_pachinko

PACKAGE = Path(falcon_pachinko.__file__).parent
RULE = PACKAGE.parents[1] / "docs" / "framework" / "architecture.md"

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix("__init__")
    .rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}


def layers() -> list[set[str]]:
    """Return the layers from the lowest to the highest."""
    found = re.search(r"```layers\n(.*?)```", RULE.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"{RULE} contains no rule"
    return [set(re.split(r",\s*", line)) for line in reversed(found[1].strip().splitlines())]


def unit_of(module: str) -> str:
    """Return the unit of the rule: a package or a single module."""
    return module.partition(".")[0]


def imports_of(module: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                name = ".".join([*base, alias.name])
                yield name if name in MODULES else ".".join(base)
        elif isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("falcon_pachinko"), (
                f"{module}: relative imports"
            )


def test_imports_only_point_down() -> None:
    rule = layers()
    level_of = {unit: level for level, units in enumerate(rule) for unit in units}
    free = {"", "__main__", "publisher", "scaffold", "uvicorn"}  # see the next tests
    assert {unit_of(module) for module in MODULES} == level_of.keys() | free
    for module in MODULES:
        for imported in imports_of(module):
            if unit_of(module) in free:
                continue
            assert unit_of(imported) in level_of, f"{module} imports {imported}"
            upward = level_of[unit_of(imported)] > level_of[unit_of(module)]
            assert not upward, f"{module} imports {imported}"


def test_the_accelerator_is_imported_by_nothing_and_imports_connection_and_below() -> None:
    rule = layers()
    allowed = {"uvicorn"}.union(
        *rule[: next(i for i, units in enumerate(rule) if "connection" in units) + 1]
    )
    for module in MODULES:
        units = {unit_of(imported) for imported in imports_of(module)}
        if unit_of(module) == "uvicorn":
            assert units <= allowed, module
        else:
            assert "uvicorn" not in units, module


def test_of_the_redis_backend_two_modules_are_imported_from_outside() -> None:
    public = {"backends.redis.backend", "backends.redis.doctor"}
    for module in MODULES:
        if not module.startswith("backends.redis"):
            for imported in imports_of(module):
                inside = imported.startswith("backends.redis")
                assert not inside or imported in public, f"{module}: {imported}"


def test_the_scaffold_imports_errors_and_names_only_and_is_imported_by_main_only() -> None:
    for module in MODULES:
        units = {unit_of(imported) for imported in imports_of(module)}
        if unit_of(module) == "scaffold":
            assert units <= {"scaffold", "errors", "names"}, module
        elif module != "__main__":
            assert "scaffold" not in units, module


def test_the_client_is_imported_by_main_only() -> None:
    for module in MODULES:
        units = {unit_of(imported) for imported in imports_of(module)}
        if unit_of(module) not in ("client", "__main__"):
            assert "client" not in units, module


def test_imports_have_no_cycle() -> None:
    graph = {module: set(imports_of(module)) - {module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                visit(imported, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_plain_modules_wait_for_nothing() -> None:
    for module in (
        "backends.buffer",
        "backends.presence",
        "backends.redis.stream",
        "backends.restriction_entry",
        "backends.restriction_table",
        "backends.roster",
        "client.machine",
        "client.liveness",
        "client.policy",
        "client.positions",
        "client.requests",
        "client.rooms",
        "client.sign_in",
        "connection.rate_limit",
        "connection.transaction",
        "contract",
        "handlers",
        "history",
        "messages",
        "names",
        "presence",
        "publication",
        "rooms.membership",
        "schema.examples",
        "schema.json_schema",
    ):
        tree = ast.parse(MODULES[module].read_text("utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Await)], module


def test_functions_of_backends_and_rooms_that_act_before_they_are_awaited_are_marked() -> None:
    others = {
        "expect",  # sends nothing: returns a future for a confirmation
        "submit",  # the word says it, as for an executor of the standard library
    }
    for module, path in MODULES.items():
        if unit_of(module) not in ("backends", "rooms"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.returns is not None:
                returned = ast.unparse(node.returns).partition("[")[0]
                if returned in ("Awaitable", "Coroutine", "asyncio.Future", "asyncio.Task"):
                    is_marked = node.name.endswith("_nowait") or node.name in others
                    assert is_marked, f"{module}.{node.name}"


@functools.cache
def names_defined_in(module: str) -> set[str]:
    """Return the classes, functions, variables and submodules of a module, without what it imports."""
    path, names = MODULES[module], set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_a_name_is_imported_from_the_module_that_defines_it() -> None:
    # Modules that give others the names of their package.
    listed = {"backends.redis.backend", "backends.redis.operations"}
    for module, path in MODULES.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and node.level):
                continue
            base = package[: len(package) - node.level + 1]
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            if source in listed:
                continue
            for alias in node.names:
                is_module = f"{source}.{alias.name}".strip(".") in MODULES
                is_defined = is_module or alias.name in names_defined_in(source)
                assert is_defined, f"{module} imports {alias.name} from {source}"


def test_no_function_is_longer_than_65_lines() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 65, f"{module}.{node.name}"


def test_the_public_names_are_the_listed_ones() -> None:
    assert sorted(falcon_pachinko.__all__) == [
        "Activity",
        "App",
        "BackendUnavailable",
        "ConfigurationError",
        "Connection",
        "Forbidden",
        "HandlerCall",
        "History",
        "InvalidPayload",
        "InvalidRoomName",
        "Limits",
        "Message",
        "MessageError",
        "NextHandler",
        "OutboxFull",
        "PachinkoError",
        "Payload",
        "PresenceBatch",
        "ProviderUnavailable",
        "RegistrationError",
        "Reject",
        "RequestKey",
        "RouteConfig",
        "ServerError",
        "ServerLimits",
        "WebSocketConnectionManager",
        "WebSocketGroup",
        "WebSocketLike",
        "WebSocketResource",
        "handles_binary",
        "handles_message",
        "install",
        "lifespan",
    ]
    assert all(hasattr(falcon_pachinko, name) for name in falcon_pachinko.__all__)
