"""The pytest fixtures, in a suite of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

CONFTEST = 'pytest_plugins = ["falcon_pachinko.testing.fixtures"]'


PYTEST_INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


TESTS = """
    from lobby import Left, make_app_with_lifespan

    record = []

    async def test_that_passes(run_app, serve_app, open_client):
        for open_app in (run_app, serve_app):
            chat = await open_app(make_app_with_lifespan(record))
            alice = await open_client(chat, "/lobby/alice")
            bob = await open_client(chat, "/lobby/bob", cookies={"a": "b"})
            await bob.close()
            assert await alice.receive(Left) == Left(name="bob", code=1000)
        assert record == ["start", "start"]

    async def test_that_fails(run_app, open_client):
        assert record == ["start", "start", "stop", "stop"]
        chat = await run_app(make_app_with_lifespan(record))
        alice = await open_client(chat, "/lobby/alice", timeout_seconds=1.0)
        await alice.send("post", {"text": "Hello!"})
        await alice.receive_until("answer")

    async def test_that_comes_after_it():
        assert record[4:] == ["start", "stop"]
"""


def python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a subprocess that can import these tests."""
    paths = [*sys.path, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_fixtures_close_applications_and_clients_after_a_failed_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_chat.py").write_text(textwrap.dedent(TESTS))
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    finished = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert "1 failed, 2 passed" in finished.stdout, finished.stdout + finished.stderr
    reason = (
        "a message of type 'answer' did not arrive within 1.0 s; received meanwhile: 1 message: "
    )
    assert f"TimeoutError: {reason}" in finished.stdout


CONFTEST_THAT_CHECKS = f"""
import pytest

{CONFTEST}


@pytest.fixture(scope="session")
def check_contract():
    return True
"""


TESTS_OF_UNDECLARED = """
    import pytest
    from lobby import make_app

    @pytest.mark.parametrize("opener", ["run_app", "serve_app"])
    async def test_that_fails(opener, request, open_client):
        chat = await request.getfixturevalue(opener)(make_app())
        alice = await open_client(chat, "/lobby/alice")
        bob = await open_client(chat, "/lobby/bob")
        await bob.close()
        await alice.receive(timeout_seconds=1.0)
"""


def test_check_contract_enables_the_check_for_a_suite(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST_THAT_CHECKS)
    (tmp_path / "test_chat.py").write_text(textwrap.dedent(TESTS_OF_UNDECLARED))
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    finished = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert "2 failed" in finished.stdout, finished.stdout + finished.stderr
    assert finished.stdout.count("Undeclared: Lobby sent ") >= 2, finished.stdout


def test_the_kit_does_not_import_pytest(tmp_path: Path) -> None:
    code = "import sys, falcon_pachinko.testing; sys.exit('pytest' in sys.modules)"
    assert python("-c", code, folder=tmp_path).returncode == 0
