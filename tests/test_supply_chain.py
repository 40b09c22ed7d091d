"""The image's dependencies: locked with hashes and without hosts, audited, and listed in an SBOM."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .support.taken_names import free_names

LOCKS = ("requirements.txt", "requirements-build.txt")
LOCKED = re.compile(r"^([a-z0-9-]+)==([^ ]+)(?: ; [^\\\n]+)? \\$", re.MULTILINE)
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
# All extras of a service; the others are tools.
EXTRAS = ("redis", "oidc", "postgres", "metrics", "traces")
NOT_OF_THE_SERVICE = {"dev", "servers", "browser", "docs", "supply-chain"}


@pytest.fixture
def project(baked: Callable[..., Path]) -> Path:
    return baked()


def locked(path: Path) -> dict[str, str]:
    """Return the locked versions by name; each has at least one hash."""
    versions: dict[str, str] = {}
    hashes: dict[str, int] = {}
    name = ""
    for line in path.read_text("utf-8").splitlines():
        if found := LOCKED.match(line):
            name, versions[found[1]] = found[1], found[2]
        elif HASH.match(line):
            hashes[name] = hashes.get(name, 0) + 1
        else:
            assert re.match(r" *#", line), f"{path.name}: {line}"
    assert versions.keys() == hashes.keys()
    return versions


def declared(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("answers", [{}, {"python_version": "3.14"}])
def test_locked_versions_are_those_that_pyproject_allows(
    baked: Callable[..., Path], answers: dict[str, str]
) -> None:
    project = baked(**answers)
    metadata = declared(project)
    given = metadata["project"]
    runtime = [*given["dependencies"]]
    for extra in EXTRAS:
        runtime += given["optional-dependencies"][extra]
    assert set(EXTRAS) == set(given["optional-dependencies"]) - NOT_OF_THE_SERVICE
    for name, requirements in zip(
        LOCKS, (runtime, metadata["build-system"]["requires"]), strict=True
    ):
        versions = locked(project / name)
        for each in map(Requirement, requirements):
            version = versions[canonicalize_name(each.name)]
            assert each.specifier.contains(version), f"{each}: run `make lock`"


def test_every_extra_of_the_service_is_locked(project: Path, environment: dict[str, str]) -> None:
    printed = subprocess.run(
        ["make", "-n", "lock"],
        cwd=project,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert re.findall(r"--extra (\S+)", printed) == list(EXTRAS)
    assert printed.count("--generate-hashes") == len(LOCKS)
    assert printed.count("--universal --python-version 3.11") == len(LOCKS)


def test_image_installs_locked_wheels_only(project: Path) -> None:
    text = re.sub(r"^#.*\n", "", (project / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    installs = [
        part
        for line in text.replace("\\\n", "").splitlines()
        for part in line.split("&&")
        if re.search(r"pip .* (?:install|wheel) --", part)
    ]
    from_index = [part for part in installs if "--no-index" not in part]
    assert len(from_index) == len(LOCKS)
    for part in from_index:
        assert "--require-hashes --only-binary :all:" in part
    named = re.findall(r"--requirement (\S+)", " ".join(from_index))
    assert sorted(named) == sorted(LOCKS)
    others = [part for part in installs if "--no-index" in part]
    assert len(others) == 2
    assert all("--no-deps" in part for part in others)
    assert "--no-build-isolation" in others[0]


def test_pip_refuses_a_wheel_with_another_hash(
    project: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    """Neither pip call needs an index: the wheel is a local file."""
    wheel = build_wheel(tmp_path)
    lock = tmp_path / "lock.txt"
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--require-hashes")
    options = (
        "--disable-pip-version-check",
        "--find-links",
        wheel.parent,
        "--only-binary",
        ":all:",
    )
    lock.write_text(f"lockedpackage==1 --hash=sha256:{'0' * 64}\n", "ascii")
    command = (*pip, *options, "--target", tmp_path / "target", "--requirement", lock)
    printed = run(project, *command, status=1)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in printed
    assert not (tmp_path / "target").exists()


def build_wheel(folder: Path) -> Path:
    """Write the smallest wheel."""
    path = folder / "wheels" / "lockedpackage-1-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        info = "lockedpackage-1.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: lockedpackage\nVersion: 1\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_dependabot_leaves_the_locked_files_to_make_lock(root: Path, project: Path) -> None:
    for folder, pattern in ((project, "requirements*.txt"), (root, "*/requirements*.txt")):
        updates = yaml.safe_load((folder / ".github/dependabot.yml").read_text("utf-8"))["updates"]
        [pip] = [each for each in updates if each["package-ecosystem"] == "pip"]
        assert pip["exclude-paths"] == [pattern]


def test_workflow_audits_weekly_and_keeps_the_sbom(project: Path) -> None:
    text = (project / ".github/workflows/supply-chain.yml").read_text("utf-8")
    workflow = yaml.safe_load(text)
    # YAML 1.1 reads the key "on" as true.
    triggers = workflow[True]
    assert triggers["schedule"]
    assert set(LOCKS) <= {
        path.name for pattern in triggers["pull_request"]["paths"] for path in project.glob(pattern)
    }
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make sbom", "make audit"]
    uses = re.findall(r"uses: (.+)", text)
    assert all(
        re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in uses
    )
    main = (project / ".github/workflows/ci.yml").read_text("utf-8")
    assert [each for each in uses if "upload-artifact" not in each] == list(
        dict.fromkeys(re.findall(r"uses: (actions/(?:checkout|setup-python)@.+)", main))
    )


def test_tools_of_the_supply_chain_have_exact_versions(project: Path) -> None:
    tools = declared(project)["project"]["optional-dependencies"]["supply-chain"]
    assert sorted(tool.split("==")[0] for tool in tools) == ["cyclonedx-bom", "pip-audit", "uv"]
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", tool) for tool in tools)


@pytest.mark.timeout(1200)
def test_lock_and_sbom_work(
    root: Path, project: Path, run: Callable[..., str], environment: dict[str, str]
) -> None:
    environment["UV_NO_PROGRESS"] = "1"
    before = {name: locked(project / name) for name in LOCKS}
    run(project, "make", "UV=", f"PYTHON={sys.executable}", "lock")
    for name in LOCKS:
        assert locked(project / name).keys() >= before[name].keys() & {"falcon", "hatchling"}
        text = (project / name).read_text("utf-8")
        assert "://" not in text
        assert str(project) not in text
        assert os.sep + "tmp" not in text
    run(project, "make", "UV=", f"PYTHON={sys.executable}", "sbom")
    bill = json.loads((project / "dist/sbom.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "chat-service"
    found = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    versions = locked(project / "requirements.txt")
    assert {"falcon", "psycopg-binary", "redis", "uvicorn"} <= found.keys()
    assert found.items() <= versions.items()
    assert free_names(root, project / ".venv/bin/python") == {"chat-service"}
