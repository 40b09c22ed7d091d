"""The manifest finds the vendored files that a project has changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko
from falcon_pachinko.support import manifest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with an unchanged copy of the framework."""
    copy = tmp_path / "falcon_pachinko"
    shutil.copytree(manifest.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = manifest.render(falcon_pachinko.__version__, manifest.checksums(copy))
    (copy / "MANIFEST").write_text(text, encoding="utf-8")
    return tmp_path


def verify(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", "falcon_pachinko", "verify"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_an_unchanged_framework_is_verified(project: Path) -> None:
    finished = verify(project)
    version = falcon_pachinko.__version__
    assert finished.stdout == f"All files are unchanged since falcon_pachinko {version}.\n"
    assert finished.returncode == 0


def test_changed_added_and_missing_files_are_listed(project: Path) -> None:
    package = project / "falcon_pachinko"
    (package / "limits.py").write_text(
        (package / "limits.py").read_text("utf-8") + "# ours\n", "utf-8"
    )
    (package / "ours.py").write_text("")
    (package / "testing" / "LICENSE").write_text("ours\n")
    (package / "LICENSE").unlink()
    finished = verify(project)
    assert finished.stdout.splitlines() == [
        "missing: LICENSE",
        "changed: limits.py",
        "added: ours.py",
        "added: testing/LICENSE",
    ]
    assert finished.returncode == 1


def test_line_endings_and_compiled_files_are_ignored(project: Path) -> None:
    package = project / "falcon_pachinko"
    path = package / "limits.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "limits.cpython-311.pyc").write_bytes(b"")
    assert verify(project).returncode == 0


@pytest.mark.parametrize("text", [None, "", "nonsense\n", "# falcon_pachinko 1\nnonsense\n"])
def test_a_missing_or_invalid_manifest_is_reported(project: Path, text: str | None) -> None:
    path = project / "falcon_pachinko" / "MANIFEST"
    path.unlink() if text is None else path.write_text(text)
    finished = verify(project)
    assert finished.returncode == 2
    assert "MANIFEST" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_manifest_is_parsed_as_it_was_rendered() -> None:
    sums = {"b.py": "1" * 64, "a/b c.py": "2" * 64}
    text = manifest.render("1.2.3", sums)
    assert text.splitlines()[1:] == [f"{sums['a/b c.py']}  a/b c.py", f"{sums['b.py']}  b.py"]
    assert manifest.parse(text) == ("1.2.3", sums)
