"""Who owns the framework's files can ask which of them were changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import falcon_pachinko
from falcon_pachinko.support import manifest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of the framework, as it came."""
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


def test_a_framework_that_nobody_has_changed_is_found_so(project: Path) -> None:
    finished = verify(project)
    version = falcon_pachinko.__version__
    assert finished.stdout == f"All files are as they came with falcon_pachinko {version}.\n"
    assert finished.returncode == 0


def test_what_was_changed_added_or_taken_away_is_named(project: Path) -> None:
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


def test_line_ends_and_compiled_files_do_not_count(project: Path) -> None:
    package = project / "falcon_pachinko"
    path = package / "limits.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "limits.cpython-311.pyc").write_bytes(b"")
    assert verify(project).returncode == 0


@pytest.mark.parametrize("text", [None, "", "nonsense\n", "# falcon_pachinko 1\nnonsense\n"])
def test_without_a_manifest_it_says_what_to_do(project: Path, text: str | None) -> None:
    path = project / "falcon_pachinko" / "MANIFEST"
    path.unlink() if text is None else path.write_text(text)
    finished = verify(project)
    assert finished.returncode == 2
    assert "MANIFEST" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_another_command_is_refused_with_the_ones_that_there_are() -> None:
    command = [sys.executable, "-B", "-m", "falcon_pachinko", "sing"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert finished.returncode == 2
    assert "verify" in finished.stderr
