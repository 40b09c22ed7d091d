"""What is built of a project holds what it needs and nothing private, and serves where it is installed."""

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

BOUND_SECONDS = 240
WAIT_SECONDS = 30.0

Run = Callable[..., str]


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_distribution_is_whole_and_serves(
    baked: Callable[..., Path], run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    project = baked(package_name="hello", project_slug="Hello.World", websocket_path="/live")
    secret = (project / ".env").read_text("ascii").rpartition("=")[2].strip()
    run(project, "git", "init", "--quiet")  # what is ignored counts only in a repository
    run(project, sys.executable, "-m", "build", "--outdir", tmp_path / "dist")
    [wheel], [sdist] = ((tmp_path / "dist").glob(f"*.{kind}") for kind in ("whl", "tar.gz"))
    assert wheel.name == "hello_world-0.1.0-py3-none-any.whl"

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        everything = b"".join(archive.read(name) for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"hello", "falcon_pachinko", "hello_world-0.1.0.dist-info"}
    source = project / "src"
    here = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("hello_world-")} == here
    assert "falcon_pachinko/py.typed" in names
    assert secret.encode() not in everything

    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        names = {member.name.partition("/")[2] for member in files}
        contents = [archive.extractfile(member) for member in files]
        everything = b"".join(content.read() for content in contents if content)
    assert {"pyproject.toml", "README.md", "LICENSE", "src/hello/app.py"} <= names
    assert ".env" not in names
    assert not [name for name in names if ".venv" in name or "__pycache__" in name]
    assert secret.encode() not in everything

    installed = tmp_path / "installed"
    run(tmp_path, sys.executable, "-m", "venv", installed)
    python = installed / "bin" / "python"
    run(tmp_path, python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    serve(python, tmp_path, environment)


def serve(python: Path, folder: Path, environment: dict[str, str]) -> None:
    """Start what is installed, let two people talk, and stop it."""
    process = subprocess.Popen(
        [python, "-m", "hello"],
        cwd=folder,
        env=environment | {"APP_PORT": "0", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = wait_serving(process)
        asyncio.run(talk(address))
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
    """Read what it prints until it says where it serves; its own start has a bound, and so has the test."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"running on (http://\S+)", line):
            return found[1]
    raise AssertionError("it has ended")


async def talk(address: str) -> None:
    """Two people hear each other."""

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
        url = address.replace("http:", "ws:") + "/live/general"
        return connect(url, additional_headers=headers, proxy=None)

    alice_token, bob_token = [await asyncio.to_thread(sign_in, name) for name in ("Alice", "Bob")]
    async with asyncio.timeout(WAIT_SECONDS), enter(alice_token) as alice, enter(bob_token) as bob:
        for speaker, listener, text in ((alice, bob, "Hello Bob!"), (bob, alice, "Hello Alice!")):
            message = {"type": "clientSendMessage", "payload": {"text": text}}
            await speaker.send(json.dumps(message))
            async for heard in listener:
                if json.loads(heard)["payload"].get("text") == text:
                    break
