"""The page for troubleshooting names only what exists: metrics, labels, settings, log lines and close codes."""

import re
from pathlib import Path

import pytest

from .support.documents import settings_of

PROJECT = "{{cookiecutter.project_slug}}"
SYMPTOMS = (
    *("1006", "1012", "4008", "4029", "4401", "403", "hangs", "do not see each other"),
    *("port is taken", "starts slowly", "memory grows"),
)


@pytest.fixture
def page(root: Path) -> str:
    return (root / PROJECT / "docs/troubleshooting.md").read_text("utf-8")


def test_each_symptom_has_what_shows_it_and_a_remedy(page: str) -> None:
    sections = re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    for symptom in SYMPTOMS:
        assert any(symptom in title for title, _ in sections), symptom
    for title, text in sections:
        assert "- **Shown by**" in text, title
        assert "- **Remedy**" in text, title


def test_metrics_and_settings_exist(page: str, root: Path) -> None:
    operations = (root / PROJECT / "docs/operations.md").read_text("utf-8")
    metrics = {
        name: line for line in operations.splitlines() for name in re.findall(r"^\| `(\w+)`", line)
    }
    for name, label in re.findall(r"`(pachinko_\w+)(?:\{(\w+)=[^`]*)?`", page):
        assert name in metrics, name
        assert not label or f"`{label}`" in metrics[name], f"{name} has no label {label}"
    settings = set(re.findall(r"\bAPP_[A-Z_]+", page))
    assert len(settings) > 10
    assert settings - settings_of(root / PROJECT / "docs/settings.md").keys() == set()


def test_log_lines_exist(page: str, root: Path) -> None:
    sources = "".join(
        path.read_text("utf-8") for path in (root / PROJECT / "src").rglob("*.py") if path.is_file()
    )
    named = [
        part.strip(" :")
        for line in re.findall(r"log lines? `([^`]+)`(?: or\s+`([^`]+)`)?", page)
        for text in line
        for part in text.split("...")
    ]
    assert len(named) > 5
    for text in filter(None, named):
        assert text in sources, text


def test_close_codes_exist(page: str, root: Path) -> None:
    codes = (root / PROJECT / "src/falcon_pachinko/close_codes.py").read_text("utf-8")
    for code in re.findall(r"^### (\d{4}):", page, re.MULTILINE):
        assert re.search(rf"= {code}\b", codes), code
