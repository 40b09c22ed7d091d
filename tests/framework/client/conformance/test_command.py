"""The command ``conformance``: its lines, its exit status, its mistakes."""

import asyncio
import subprocess
import sys

import pytest
from websockets.asyncio.server import ServerConnection, serve

from falcon_pachinko.__main__ import main

from .raw_server import raw_server

BOUND_SECONDS = 50.0


async def run_command(*arguments: str) -> tuple[int | None, str, str]:
    """Run the command; return its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-m", "falcon_pachinko", "conformance", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(BOUND_SECONDS):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_a_line_for_each_check_and_status_0() -> None:
    async with raw_server() as url:
        status, output, errors = await run_command(
            url.replace("ws:", "http:"), "--send", "clientSay", '{"text": "a"}', "--quick"
        )
    assert (status, errors) == (0, "")
    *lines, last = output.splitlines()
    assert last == "the server conforms"
    assert {line.split()[0] for line in lines} == {"ok", "skip"}


async def test_a_failure_is_named_and_the_status_is_1() -> None:
    async with raw_server("never recovered") as url:
        status, output, _ = await run_command(url, "--quick")
    assert status == 1
    assert "FAIL  a client that has missed nothing recovers: recovered is false" in output
    assert output.endswith("of 16 checks failed\n")


async def test_a_server_that_cannot_be_checked_has_the_status_2() -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.close(4401, "not signed in")

    async with serve(refuse, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        status, output, errors = await run_command(f"ws://127.0.0.1:{port}/", "--timeout", "1")
    assert (status, output) == (2, "")
    assert "closes with 4401 not signed in: does it need a --token?" in errors
    status, output, errors = await run_command("ws://127.0.0.1:1/")
    assert (status, output) == (2, "")
    assert errors.startswith("conformance: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["chat"], "'chat' is not a WebSocket URL"),
        (
            ["ws://a.test/", "--send", "clientSay", "{"],
            "the payload of clientSay is not valid JSON",
        ),
    ],
)
def test_a_mistake_is_named(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_other_commands_do_not_import_the_client() -> None:
    program = (
        "import sys; from falcon_pachinko.__main__ import main; main(['verify']);"
        " print([name for name in sys.modules if name.startswith(('websockets', 'falcon_pachinko.client'))])"
    )
    finished = subprocess.run(
        [sys.executable, "-B", "-c", program], capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    assert finished.stdout.splitlines()[-1] == "[]", finished.stdout
