"""Imports go down only, and the public names are the listed ones."""

import ast
from pathlib import Path

import falcon_pachinko

PACKAGE = Path(falcon_pachinko.__file__).parent

FLOORS = [
    {"backends/base", "close_codes", "errors", "protocols", "limits"},
    {
        "backends/feed",
        "backends/script",
        "backends/tail",
        "background",
        "bucket",
        "contract",
        "deadline",
        "entries",
        "examples",
        "handlers",
        "held",
        "collector",
        "loops",
        "manifest",
        "messages",
        "rooms",
        "schemas",
        "suspension",
    },
    {
        "audience",
        "backends/calls",
        "backends/engine",
        "backends/hearing",
        "backends/listener",
        "backends/memory",
        "backends/presences",
        "backends/redis",
        "backends/wire",
        "connection",
        "inbox",
        "outbox",
        "newcomers",
        "push",
        "turn",
        "uvicorn",
        "workers",
    },
    {"backends/__init__", "manager", "publisher", "resource"},
    {"asyncapi", "install", "routing", "typescript"},
    {"__init__", "__main__"},
]
# Within a floor, these may import these.
NEIGHBOURS = {
    ("asyncapi", "install"),
    ("asyncapi", "routing"),
    ("backends/calls", "backends/engine"),
    ("backends/feed", "backends/tail"),
    ("backends/listener", "backends/engine"),
    ("backends/engine", "backends/wire"),
    ("backends/listener", "backends/wire"),
    ("backends/hearing", "backends/calls"),
    ("backends/hearing", "backends/engine"),
    ("backends/hearing", "backends/listener"),
    ("backends/presences", "backends/calls"),
    ("backends/redis", "backends/calls"),
    ("backends/redis", "backends/hearing"),
    ("backends/redis", "backends/presences"),
    ("backends/redis", "backends/engine"),
    ("backends/redis", "backends/listener"),
    ("backends/base", "errors"),
    ("entries", "messages"),
    ("publisher", "backends/__init__"),
    ("audience", "connection"),
    ("audience", "outbox"),
    ("audience", "push"),
    ("connection", "inbox"),
    ("connection", "outbox"),
    ("contract", "handlers"),
    ("contract", "messages"),
    ("errors", "close_codes"),
    ("held", "messages"),
    ("inbox", "outbox"),
    ("install", "routing"),
    ("resource", "manager"),
    ("push", "outbox"),
    ("push", "turn"),
    ("uvicorn", "inbox"),
    ("uvicorn", "outbox"),
    ("uvicorn", "newcomers"),
    ("uvicorn", "push"),
}


def imported_modules(path: Path) -> set[str]:
    """The modules of this package that a file imports, those for type checking too."""
    found = set()
    inside = path.parent == PACKAGE / "backends"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                first, _, rest = name.partition(".")
                if inside and node.level == 1:
                    found.add(f"backends/{first}")
                elif first == "backends":
                    found.add(f"backends/{rest or '__init__'}")
                else:
                    found.add(first)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            found.add("an absolute import of the package itself")
    return found


def name_of(path: Path) -> str:
    """A module as it stands in FLOORS."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def modules() -> list[Path]:
    """All that serves: not what tests or writes code."""
    return [*PACKAGE.glob("*.py"), *(PACKAGE / "backends").glob("*.py")]


def test_imports_go_down_only() -> None:
    floor_of = {module: number for number, floor in enumerate(FLOORS) for module in floor}
    floor_of["scaffold"] = 0  # it needs nothing but errors, see below
    for path in modules():
        name = name_of(path)
        for module in imported_modules(path):
            down = floor_of[module] < floor_of[name]
            assert down or (name, module) in NEIGHBOURS, f"{name} imports {module}"


def test_what_writes_code_stands_beside_what_serves() -> None:
    writers = list((PACKAGE / "scaffold").glob("*.py"))
    for path in writers:
        assert imported_modules(path) <= {each.stem for each in writers} | {"errors"}, path.name
    importers = [path.stem for path in PACKAGE.glob("*.py") if "scaffold" in imported_modules(path)]
    assert importers == ["__main__"]


def test_every_module_has_its_floor() -> None:
    assert {name_of(path) for path in modules()} == set().union(*FLOORS)


def test_the_pure_floor_waits_for_nothing() -> None:
    for module in (
        "backends/feed",
        "backends/tail",
        "bucket",
        "contract",
        "entries",
        "examples",
        "handlers",
        "held",
        "messages",
        "rooms",
        "schemas",
    ):
        tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Await)], module


def test_the_public_names_are_the_listed_ones() -> None:
    assert sorted(falcon_pachinko.__all__) == [
        "App",
        "BackendUnavailable",
        "Connection",
        "History",
        "InvalidPayload",
        "InvalidRoomName",
        "Limits",
        "Message",
        "MessageError",
        "OutboxFull",
        "PachinkoError",
        "RegistrationError",
        "Reject",
        "ServerError",
        "WebSocketConnectionManager",
        "WebSocketLike",
        "WebSocketResource",
        "handles_binary",
        "handles_message",
        "install",
    ]
    assert all(hasattr(falcon_pachinko, name) for name in falcon_pachinko.__all__)
