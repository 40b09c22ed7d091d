"""A project's distributions are complete, contain no secret, and serve once installed."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from .support.processes import DEVELOPMENT

BOUND_SECONDS = 240
WAIT_SECONDS = 30.0

Run = Callable[..., str]


@pytest.mark.timeout(BOUND_SECONDS)
def test_distribution_is_complete_and_serves(
    default_or_far: dict[str, str],
    baked: Callable[..., Path],
    run: Run,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    project = baked(**default_or_far)
    package = default_or_far.get("package_name", "chat_service")
    # Normalized as in the specification of wheels, for use in a file name.
    name = re.sub(r"[-_.]+", "_", project.name).lower()
    secret = (project / ".env").read_text("ascii").rpartition("=")[2].strip()
    run(project, sys.executable, "-m", "build", "--outdir", tmp_path / "dist")
    [wheel], [sdist] = ((tmp_path / "dist").glob(f"*.{kind}") for kind in ("whl", "tar.gz"))
    assert wheel.name == f"{name}-0.1.0-py3-none-any.whl"

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        everything = b"".join(archive.read(each) for each in names)
    tops = {each.partition("/")[0] for each in names}
    assert tops == {package, "falcon_pachinko", f"{name}-0.1.0.dist-info"}
    source = project / "src"
    here = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {each for each in names if not each.startswith(f"{name}-")} == here
    assert "falcon_pachinko/py.typed" in names
    assert secret.encode() not in everything

    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        names = {member.name.partition("/")[2] for member in files}
        contents = [archive.extractfile(member) for member in files]
        everything = b"".join(content.read() for content in contents if content)
    assert {"pyproject.toml", "README.md", "LICENSE", f"src/{package}/app.py"} <= names
    assert ".env" not in names
    assert not [each for each in names if ".venv" in each or "__pycache__" in each]
    assert secret.encode() not in everything

    installed = tmp_path / "installed"
    run(tmp_path, sys.executable, "-m", "venv", installed)
    python = installed / "bin" / "python"
    run(tmp_path, python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    path = default_or_far.get("websocket_path", "/ws/chat")
    serve([str(python), "-m", package], path, tmp_path, environment)


def serve(command: list[str], path: str, folder: Path, environment: dict[str, str]) -> None:
    """Start the installed service, exchange messages, and stop it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"APP_PORT": "0", "PYTHONUNBUFFERED": "1", **DEVELOPMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = wait_serving(process)
        asyncio.run(talk(address, path))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode in (0, -signal.SIGTERM), printed
        assert "Application shutdown complete." in printed
        assert "Traceback" not in printed
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(WAIT_SECONDS)


def wait_serving(process: subprocess.Popen[str]) -> str:
    """Return the address from the service's log; the test's timeout bounds the wait."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"running on (http://\S+)", line):
            return found[1]
    raise AssertionError("the service has exited")


async def talk(address: str, path: str) -> None:
    """Two clients receive each other's messages."""

    def sign_in(name: str) -> str:
        request = urllib.request.Request(
            f"{address}/session",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=WAIT_SECONDS) as response:
            token: str = json.load(response)["token"]
        return token

    def enter(token: str) -> connect:
        headers = {"Authorization": f"Bearer {token}"}
        url = address.replace("http:", "ws:") + f"{path}/general"
        return connect(url, additional_headers=headers, proxy=None)

    alice_token, bob_token = [await asyncio.to_thread(sign_in, name) for name in ("Alice", "Bob")]
    async with asyncio.timeout(WAIT_SECONDS), enter(alice_token) as alice, enter(bob_token) as bob:
        for speaker, listener, text in ((alice, bob, "Hello Bob!"), (bob, alice, "Hello Alice!")):
            message = {"type": "clientSendMessage", "payload": {"text": text}}
            await speaker.send(json.dumps(message))
            async for heard in listener:
                if json.loads(heard)["payload"].get("text") == text:
                    break
