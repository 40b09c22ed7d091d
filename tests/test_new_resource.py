"""``python -m falcon_pachinko new`` leaves a project with clean checks, passing tests and a current contract."""

from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 1200

Run = Callable[..., str]

# The answers of a bake, and the arguments of each ``new``. The tutorial covers the defaults.
CASES: dict[str, tuple[dict[str, str], list[list[str]]]] = {
    "short names": (
        {"package_name": "a", "resource_name": "X", "websocket_path": "/x", "room_prefix": "game_"},
        [
            ["A", "--path", "/{team}/of/{number:int}"],
            ["HTTPBoard2", "--path", "/board", "--prefix", "it's \"\\ one:"],
            ["Game"],
        ],
    ),
    "long names": (
        {
            "package_name": "a_package_with_a_name_of_some_fifty_characters_here",
            "resource_name": "ResourceWithANameOfSomeFiftyCharactersInAllOfIt",
            "room_prefix": "'\"\\ 房间",
            "license": "Apache-2.0",
        },
        [["G" * 32, "--path", f"/{'a' * 32}/{{{'f' * 32}}}/{{{'u' * 32}:uuid}}"]],
    ),
}


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(("answers", "resources"), CASES.values(), ids=CASES)
def test_a_project_passes_all_checks_after_new_resources(
    baked: Callable[..., Path],
    run: Run,
    project_python: Path,
    answers: dict[str, str],
    resources: list[list[str]],
) -> None:
    project = baked(**answers)

    def python(*arguments: str, status: int = 0) -> str:
        source = project / "src"
        return run(project, project_python, "-m", *arguments, status=status, PYTHONPATH=source)

    before = set(project.glob("*/**/*.py"))
    for arguments in resources:
        printed = python("falcon_pachinko", "new", *arguments)
        assert "wrote asyncapi.yaml\n" in printed
    written = [path.parent.name for path in project.glob("*/**/*.py") if path not in before]
    assert sorted(written) == sorted(["resources", "integration"] * len(resources))
    refused = python("falcon_pachinko", "new", *resources[0], status=1)
    assert "exists already" in refused

    python("ruff", "check", "--no-cache")
    python("ruff", "format", "--no-cache", "--check")
    python("mypy")
    contract = python(f"{answers['package_name']}.contract_files")
    assert "wrote" not in contract, "the contract is current"
    # The tests of `make quick`: the others are about processes and databases.
    suite = ("tests/unit", "tests/integration")
    quick = "not slow and not redis and not postgres"
    python("pytest", "-q", "-n", "2", "-m", quick, *suite)
    unchanged = "All files are unchanged since falcon_pachinko"
    assert unchanged in python("falcon_pachinko", "verify"), "the framework is unchanged"
