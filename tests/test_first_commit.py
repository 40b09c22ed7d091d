"""The first commit of a project passes its own hooks, and they change nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 600
ODD = {
    "project_name": 'the "best" chat 😀',
    "package_name": "zzz_late",
    "description": "- yes: {it's} \\ #odd",
    "resource_name": "X",
    "websocket_path": "/live",
    "room_prefix": "'\"\\ 房间",
    "license": "Proprietary",
}


@pytest.mark.timeout(BOUND_SECONDS)
def test_all_hooks_pass_and_change_nothing(
    baked: Callable[..., Path], environment: dict[str, str], tmp_path: Path
) -> None:
    environment = environment | {"PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}

    def run(project: Path, *command: str) -> str:
        finished = subprocess.run(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BOUND_SECONDS / 2,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    for answers in ({}, ODD):
        project = baked(**answers)
        run(project, "git", "init", "--quiet")
        run(project, "git", "add", "--all")
        printed = run(project, sys.executable, "-m", "pre_commit", "run", "--all-files")
        assert printed.count("Passed") == 9, printed
        assert run(project, "git", "diff", "--name-only") == ""
        assert ".env\n" not in run(project, "git", "ls-files")
