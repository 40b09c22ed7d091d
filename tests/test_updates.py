"""``cruft update`` brings an older project up to date, and keeps its owner's changes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BOUND_SECONDS = 900
PROJECT = "{{cookiecutter.project_slug}}"
CHAT = "src/chat_service/resources/chat_room.py"
# Last lines of files from each part of a project in the previous version.
EARLIER = {
    "docs/architecture.md": "\n## It was here before\n",
    "src/falcon_pachinko/limits.py": "EARLIER = True\n",
    "src/{{cookiecutter.package_name}}/web/style.css": "/* earlier */\n",
    "src/{{cookiecutter.package_name}}/settings.py": "EARLIER = True\n",
}
ANSWERS = {"project_name": "Chat Service", "author_name": "Ada 'Zoë' Ω"}

Run = Callable[..., str]


@pytest.fixture
def template(root: Path, tmp_path: Path, run: Run) -> Path:
    """A repository of the template: the previous commit, then the working tree."""
    folder = tmp_path / "template"
    folder.mkdir()
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    put_previous(root, folder, run)
    commit(folder, "before", run)
    run(folder, "git", "tag", "v0")
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in run(root, "git", "ls-files", "-z").split("\0"):
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    commit(folder, "now", run)
    return folder


def put_previous(root: Path, folder: Path, run: Run) -> None:
    """Unpack the previous commit's template, with a difference in each part of a project."""
    revision = "HEAD~1"
    if subprocess.run(["git", "rev-parse", "-q", "--verify", revision], cwd=root).returncode != 0:
        revision = "HEAD"  # a clone without history
    archive = folder.parent / "before.tar"
    run(root, "git", "archive", "-o", str(archive), revision)
    shutil.unpack_archive(archive, folder, filter="data")
    project = folder / PROJECT
    for name, line in EARLIER.items():
        with (project / name).open("a", encoding="utf-8") as file:
            file.write(line)
    (project / "docs" / "framework" / "index.md").unlink(missing_ok=True)
    (project / "docs" / "gone.md").write_text("# It is not there any more\n", "utf-8")


def commit(folder: Path, message: str, run: Run) -> None:
    run(folder, "git", "add", "--all", "--force")
    run(folder, "git", "commit", "--quiet", "--no-verify", "-m", message)


@pytest.mark.timeout(BOUND_SECONDS)
def test_update_of_an_older_project_keeps_local_changes(
    template: Path, tmp_path: Path, run: Run, project_python: Path
) -> None:
    cruft = (sys.executable, "-m", "cruft")
    run(
        tmp_path,
        *(*cruft, "create", str(template), "--no-input", "--checkout", "v0"),
        *("--extra-context", json.dumps(ANSWERS)),
    )
    project = tmp_path / "chat-service"
    secret = (project / ".env").read_bytes()
    run(project, "git", "init", "--quiet")
    commit_tracked(project, "as it came", run)
    assert not (project / "docs" / "framework" / "index.md").exists()

    # The owner's changes.
    chat = (project / CHAT).read_text("utf-8")
    handler = '    @handles_message("clientStartTyping")\n'
    assert handler in chat
    (project / CHAT).write_text(chat.replace(handler, "    # ours\n" + handler), "utf-8")
    (project / "NOTES.md").write_text("ours\n", "utf-8")
    source = project / "src"
    run(project, project_python, "-m", "falcon_pachinko", "new", "GameRoom", PYTHONPATH=source)
    readme = (project / "README.md").read_text("utf-8")
    (project / "README.md").write_text(readme + "\n## Ours\n", "utf-8")
    commit_tracked(project, "what we did", run)

    run(project, *cruft, "check", status=1)
    run(project, *cruft, "update", "--skip-apply-ask", "--checkout", "main")
    assert not list(project.rglob("*.rej")) + list(project.rglob("*.orig"))
    changed = run(project, "git", "diff", "--name-only", "HEAD").split()
    assert "src/falcon_pachinko/limits.py" in changed
    commit_tracked(project, "update", run)
    run(project, *cruft, "check")

    assert "    # ours\n" in (project / CHAT).read_text("utf-8")
    assert (project / "NOTES.md").read_text("utf-8") == "ours\n"
    assert (project / "README.md").read_text("utf-8").endswith("\n## Ours\n")
    assert (project / "src/chat_service/resources/game_room.py").exists()
    for name, line in EARLIER.items():
        updated = project / name.replace("{{cookiecutter.package_name}}", "chat_service")
        assert line.strip() not in updated.read_text("utf-8"), name
    assert (project / "docs" / "framework" / "index.md").exists()
    assert not (project / "docs" / "gone.md").exists()
    assert (project / ".env").read_bytes() == secret
    verified = run(project / "src", sys.executable, "-B", "-m", "falcon_pachinko", "verify")
    assert verified.startswith("All files are unchanged")

    # The remaining difference is the owner's changes, without the files of hooks.
    difference = run(project, *cruft, "diff")
    assert "+    # ours" in difference or "-    # ours" in difference
    assert ".env" not in [
        line.rpartition("/")[2] for line in difference.splitlines() if line[:3] in ("+++", "---")
    ]

    # As the changelog says: the contract of the owner's own resource has changed with the framework.
    run(project, project_python, "-m", "chat_service.contract_files", PYTHONPATH=source)
    suite = ("tests/unit", "tests/integration")
    run(project, project_python, "-m", "pytest", "-q", "-n", "2", *suite, PYTHONPATH=source)


def commit_tracked(folder: Path, message: str, run: Run) -> None:
    """Commit all files that .gitignore does not exclude."""
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--no-verify", "-m", message)
