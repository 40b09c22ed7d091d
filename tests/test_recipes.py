"""The complete files in the recipes: they are valid, and agree with a generated project."""

import configparser
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from .support.documents import settings_of

KUBERNETES = "1.34"
FILE = re.compile(r"^```(?:yaml|ini)\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def files_of(root: Path) -> Callable[[str], dict[str, str]]:
    """Return the files of a recipe by name."""

    def files_of(name: str) -> dict[str, str]:
        return dict(FILE.findall((root / f"docs/recipes/{name}.md").read_text("utf-8")))

    return files_of


def find(objects: list[Any], kind: str) -> Any:
    return next(each for each in objects if each["kind"] == kind)


def test_the_objects_of_kubernetes_are_valid_and_refer_to_each_other(files_of: Any) -> None:
    objects = list(yaml.safe_load_all(files_of("kubernetes")["chat.yaml"]))
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    pod = find(objects, "Deployment")["spec"]["template"]
    [container] = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert find(objects, "Service")["spec"]["selector"] == labels
    assert find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert {each[kind]["name"] for each in container["envFrom"] for kind in each} == {"chat"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_nobody_kills_a_process_before_its_stop_has_ended(files_of: Any, root: Path) -> None:
    compose = (root / "{{cookiecutter.project_slug}}/compose.yaml").read_text("utf-8")
    [seconds] = map(int, re.findall(r"^  stop_grace_period: (\d+)s$", compose, re.MULTILINE))
    pod = find(list(yaml.safe_load_all(files_of("kubernetes")["chat.yaml"])), "Deployment")["spec"][
        "template"
    ]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] == before + seconds
    assert f"TimeoutStopSec={seconds}\n" in files_of("systemd")["chat.service"]


def test_settings_in_the_files_exist(files_of: Any, root: Path) -> None:
    settings = settings_of(root / "{{cookiecutter.project_slug}}/docs/settings.md").keys()
    texts = "".join(text for name in ("kubernetes", "systemd") for text in files_of(name).values())
    named = set(re.findall(r"\bAPP_[A-Z_]+", texts))
    assert len(named) > 6
    assert named - settings == set()


def test_the_autoscaler_reads_a_metric_through_the_rule_of_the_adapter(files_of: Any) -> None:
    files = files_of("kubernetes")
    [metric] = find(list(yaml.safe_load_all(files["chat.yaml"])), "HorizontalPodAutoscaler")[
        "spec"
    ]["metrics"]
    [rule] = yaml.safe_load(files["adapter.yaml"])["rules"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] == "pachinko_connections"


def test_the_units_of_systemd_are_valid(files_of: Any, tmp_path: Path) -> None:
    files = files_of("systemd")
    assert sorted(files) == ["chat.service", "chat.socket"]
    for name, text in files.items():
        parsed = configparser.ConfigParser(interpolation=None, strict=False)
        parsed.optionxform = str  # type: ignore[assignment,method-assign]
        parsed.read_string(text)
        # The machine of the test has no such program.
        text = text.replace("/opt/chat/.venv/bin/python", "/bin/true")
        (tmp_path / name).write_text(text, "utf-8")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    verified = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert verified.returncode == 0, verified.stderr
    assert "chat." not in verified.stderr
