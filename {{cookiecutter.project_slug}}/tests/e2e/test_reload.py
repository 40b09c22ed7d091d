"""``serve --reload``, as ``make run`` starts it: the service starts again after a change."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from ..conftest import PACKAGE, SOURCES, WAIT_SECONDS
from .test_log import wait_printed

if TYPE_CHECKING:
    from ..conftest import Server

STARTED = "Application startup complete."
needs_watchfiles = pytest.mark.skipif(
    importlib.util.find_spec("watchfiles") is None, reason="needs watchfiles"
)


@pytest.fixture
def reloading(serve: Callable[..., Server], tmp_path: Path) -> Server:
    """The service with code of its own, which starts again after a change."""
    shutil.copytree(SOURCES, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    (tmp_path / ".env").write_text("APP_ANNOUNCEMENT_TEXT=x\n", "utf-8")
    server = serve("-m", PACKAGE, "serve", "--reload", PYTHONPATH=str(tmp_path / "src"))
    wait_printed(server, STARTED)
    return server


async def health(server: Server) -> int:
    """Return the status of the process that has started last."""
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client:
        return (await client.get(f"{server.url}/health")).status_code


async def test_a_change_of_the_code_starts_it_again_on_the_same_port(
    reloading: Server, tmp_path: Path
) -> None:
    module = tmp_path / "src" / PACKAGE / "workers.py"
    module.write_text(module.read_text("utf-8") + "\n", "utf-8")
    wait_printed(reloading, STARTED, times=2)
    assert await health(reloading) == 200


@needs_watchfiles
async def test_a_change_of_the_settings_starts_it_again_and_one_of_a_test_does_not(
    reloading: Server, tmp_path: Path
) -> None:
    (tmp_path / "tests" / "test_new.py").write_text("x = 1\n", "utf-8")
    async with reloading.join("Alice", "lobby") as alice:
        await alice.send("clientPing", {})
    (tmp_path / ".env").write_text("APP_ANNOUNCEMENT_TEXT=y\n", "utf-8")
    wait_printed(reloading, STARTED, times=2)
    assert "'.env'" in reloading.output()
    assert "test_new.py" not in reloading.output()
