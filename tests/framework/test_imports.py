"""What a program imports: only the modules that it uses, and nothing large after its start."""

import ast
import subprocess
import sys
from pathlib import Path

import falcon_pachinko

INIT = Path(falcon_pachinko.__file__)

# Parts of the framework and libraries that an application of one process does not use.
UNUSED = {
    "falcon_pachinko.backends.redis",
    "falcon_pachinko.client",
    "falcon_pachinko.publisher",
    "falcon_pachinko.rooms.publisher",
    "falcon_pachinko.scaffold",
    "falcon_pachinko.schema",
    "falcon_pachinko.server.exposition",
    "falcon_pachinko.server.tracing",
    "falcon_pachinko.testing",
    "falcon_pachinko.uvicorn",
    "falcon_pachinko.workers",
    "opentelemetry",
    "prometheus_client",
    "redis",
    "uvicorn",
    "websockets",
}

COMMAND = """
import runpy, sys
sys.argv = ["falcon_pachinko", "--help"]
try:
    runpy.run_module("falcon_pachinko", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
print("modules", *sys.modules)
"""

# The events are those of a server, so that no tool for tests imports a module before the application does.
APPLICATION = """
import asyncio, sys
import falcon.asgi
import falcon_pachinko
from falcon_pachinko import WebSocketResource

class Room(WebSocketResource):
    async def on_connect(self, req, ws, room):
        await self.join_room(room)
        return True

app = falcon_pachinko.install(falcon.asgi.App())
app.add_websocket_route("/ws/{room}", Room)
scope = {"type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws",
    "path": "/ws/a", "raw_path": b"/ws/a", "query_string": b"", "root_path": "", "headers": [],
    "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "subprotocols": [], "extensions": {}}
events = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "{}"},
    {"type": "websocket.disconnect", "code": 1000}]

async def main():
    async with falcon_pachinko.lifespan(app):
        print("modules", *sys.modules)
        waiting, accepted = list(events), asyncio.Event()
        async def receive():
            if len(waiting) < len(events):
                await accepted.wait()
            return waiting.pop(0)
        async def send(event):
            if event["type"] == "websocket.accept":
                accepted.set()
        async with asyncio.timeout(20):
            await app(scope, receive, send)
        assert accepted.is_set()
        print("modules", *sys.modules)

asyncio.run(main())
"""


def lists_of_modules(program: str) -> list[set[str]]:
    """Run a program in a process of its own; return the lists of modules that it prints."""
    command = [sys.executable, "-B", "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    return [set(line.split()) for line in lines if line.startswith("modules")]


def test_the_help_of_the_command_line_imports_no_falcon() -> None:
    [modules] = lists_of_modules(COMMAND)
    assert "falcon_pachinko" in modules
    assert not modules & {"asyncio", "falcon", "msgspec"}
    own = {name for name in modules if name.startswith("falcon_pachinko.")}
    assert own <= {"falcon_pachinko.__main__"}


def test_an_application_imports_no_part_that_it_does_not_use() -> None:
    started, _ = lists_of_modules(APPLICATION)
    assert "falcon_pachinko.backends.memory" in started
    assert not started & UNUSED


def test_the_first_connection_imports_nothing() -> None:
    started, served = lists_of_modules(APPLICATION)
    assert served == started


def test_each_public_name_is_imported_from_the_module_that_type_checkers_see() -> None:
    seen: dict[str, str | None] = {}
    for node in ast.walk(ast.parse(INIT.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            seen |= {alias.name: node.module for alias in node.names}
    assert sorted(seen) == sorted(falcon_pachinko.__all__)
    assert seen == falcon_pachinko._MODULE_OF


def test_an_unknown_name_is_an_attribute_error_and_all_names_are_listed() -> None:
    assert not hasattr(falcon_pachinko, "instal")
    assert set(falcon_pachinko.__all__) <= set(dir(falcon_pachinko))
