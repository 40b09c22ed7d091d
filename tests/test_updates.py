"""``cruft update`` brings an older project up to date, and keeps its owner's changes."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOUND_SECONDS = 900
PROJECT = "{{cookiecutter.project_slug}}"
CHAT = "src/chat_service/resources/chat_room.py"
# Last lines of files from each part of a project in the previous version.
# What an owner has changed in the project of an older version: text in a file, and its replacement.
EDITS = {
    ".env.example": ("\n", "\n# our setting\n"),
    ".gitignore": ("\n", "\n/ours/\n"),
    "README.md": ("\n\n", "\n\nOur introduction.\n\n"),
    "pyproject.toml": ('version = "0.1.0"', 'version = "3.2.1"'),
    CHAT: (
        '    @handles_message("clientStartTyping")\n',
        '    # ours\n    @handles_message("clientStartTyping")\n',
    ),
}
OWN = {"NOTES.md": "ours\n", "src/chat_service/ours.py": "OURS = True\n"}
DELETED = "LICENSE"
VERSIONS = 10
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
    put_working_tree(root, folder, run)
    return folder


def put_working_tree(root: Path, folder: Path, run: Run) -> None:
    """Commit the files of the working tree as the next version of a repository of the template."""
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in run(root, "git", "ls-files", "-z").split("\0"):
        if name and (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    commit(folder, "now", run, "--allow-empty")


def put_previous(root: Path, folder: Path, run: Run) -> None:
    """Unpack the previous commit's template, with a difference in each part of a project."""
    revision = "HEAD~1"
    if subprocess.run(["git", "rev-parse", "-q", "--verify", revision], cwd=root).returncode != 0:
        revision = "HEAD"  # a clone without history
    archive = folder.parent / "before.tar"
    run(root, "git", "archive", "-o", str(archive), revision)
    # Python 3.11.0 to 3.11.3 have no filters.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    shutil.unpack_archive(archive, folder, **options)
    project = folder / PROJECT
    for name, line in EARLIER.items():
        with (project / name).open("a", encoding="utf-8") as file:
            file.write(line)
    (project / "docs" / "framework" / "index.md").unlink(missing_ok=True)
    (project / "docs" / "gone.md").write_text("# It is not there any more\n", "utf-8")


def commit(folder: Path, message: str, run: Run, *options: str) -> None:
    run(folder, "git", "add", "--all", "--force")
    run(folder, "git", "commit", "--quiet", "--no-verify", *options, "-m", message)


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


@pytest.fixture
def whole_history(root: Path, tmp_path: Path, run: Run) -> Path:
    """A repository with all commits of the template, then the working tree."""
    if run(root, "git", "rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("the clone has no history: git fetch --unshallow")
    folder = tmp_path / "template"
    run(tmp_path, "git", "clone", "--quiet", "--no-tags", str(root), str(folder))
    run(folder, "git", "checkout", "--quiet", "-B", "main")
    put_working_tree(root, folder, run)
    return folder


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("tenth", range(VERSIONS))
def test_update_from_across_the_history_keeps_an_owners_edits(
    whole_history: Path, tmp_path: Path, run: Run, tenth: int
) -> None:
    """Each file is that of a new project, except for what the owner has changed."""
    template = str(whole_history)
    history = run(
        whole_history,
        *("git", "log", "--first-parent", "--reverse", "--format=%H", "main~1", "--", PROJECT),
    ).split()
    # Without the last one, from which nothing may have changed.
    baking = [each for each in history if has_questions(whole_history, each)][:-1]
    commit_id = baking[tenth * (len(baking) - 1) // (VERSIONS - 1)]
    cruft = (sys.executable, "-m", "cruft")
    create = (*cruft, "create", template, "--no-input", "--extra-context", json.dumps(ANSWERS))
    run(tmp_path, *create, "--checkout", commit_id)
    project = tmp_path / "chat-service"
    run(project, "git", "init", "--quiet")
    commit_tracked(project, "as it came", run)
    # The first versions did not have all of the files.
    edits = {name: edit for name, edit in EDITS.items() if (project / name).exists()}
    for name, (old, new) in edits.items():
        text = (project / name).read_text("utf-8")
        assert old in text, name
        (project / name).write_text(text.replace(old, new, 1), "utf-8")
    for name, text in OWN.items():
        (project / name).write_text(text, "utf-8")
    (project / DELETED).unlink(missing_ok=True)
    secret = (project / ".env").read_bytes()
    commit_tracked(project, "what we did", run)

    run(project, *cruft, "update", "--skip-apply-ask", "--checkout", "main")
    assert not list(project.rglob("*.rej")) + list(project.rglob("*.orig"))
    conflicts = run(project, "git", "diff", "--name-only", "--diff-filter=U").split()
    assert set(conflicts) <= edits.keys(), "a conflict can only be where the owner has edited"
    for name, (old, new) in edits.items():
        kept = {line.strip() for line in (project / name).read_text("utf-8").splitlines()}
        assert {line.strip() for line in set(new.splitlines()) - set(old.splitlines())} <= kept
    for name, text in OWN.items():
        assert (project / name).read_text("utf-8") == text
    assert not (project / DELETED).exists()
    assert (project / ".env").read_bytes() == secret

    fresh = tmp_path / "fresh"
    run(tmp_path, *create, "--checkout", "main", "--output-dir", str(fresh))
    expected, updated = contents(fresh / "chat-service"), contents(project)
    assert {*updated, DELETED} == {*expected, *OWN}
    common = expected.keys() & updated.keys()
    different = {name for name in common if expected[name] != updated[name]}
    assert different <= {*edits, ".env", ".cruft.json"}
    [revision] = {
        json.loads((each / ".cruft.json").read_text("utf-8"))["commit"]
        for each in (fresh / "chat-service", project)
    }
    assert run(whole_history, "git", "rev-parse", "main").strip() == revision


def has_questions(template: Path, commit_id: str) -> bool:
    """Return whether a commit has the questions: the first commits came before them."""
    command = ["git", "cat-file", "-e", f"{commit_id}:cookiecutter.json"]
    return subprocess.run(command, cwd=template, capture_output=True, timeout=60).returncode == 0


def contents(project: Path) -> dict[str, bytes]:
    """Return the content of each file by its name, without .git and caches."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & {*path.relative_to(project).parts}
    }


def test_no_choice_has_been_dropped(root: Path, run: Run) -> None:
    """Cookiecutter refuses an answer that is no longer a choice, so such a project could not be updated."""
    now = json.loads((root / "cookiecutter.json").read_text("utf-8"))
    for commit_id in run(root, "git", "log", "--format=%H", "--", "cookiecutter.json").split():
        if not has_questions(root, commit_id):
            continue
        before = json.loads(run(root, "git", "show", f"{commit_id}:cookiecutter.json"))
        for question, choices in before.items():
            if isinstance(choices, list) and not question.startswith("_"):
                assert set(choices) <= set(now[question]), f"{question} at {commit_id}"


def test_baking_again_with_skip_if_file_exists_keeps_the_files_of_an_owner(
    root: Path, tmp_path: Path, run: Run
) -> None:
    bake = (sys.executable, "-m", "cookiecutter", str(root), "--no-input", "--default-config")
    run(tmp_path, *bake)
    project = tmp_path / "chat-service"
    for name, (old, new) in EDITS.items():
        text = (project / name).read_text("utf-8")
        (project / name).write_text(text.replace(old, new, 1), "utf-8")
    for name in (*OWN, ".hypothesis/examples/failing", "data/.mypy_cache/file", "empty"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("ours\n", "utf-8")
    (project / DELETED).unlink()
    before = contents(project)
    printed = run(tmp_path, *bake, "--overwrite-if-exists", "--skip-if-file-exists")
    assert "Next steps" in printed
    after = contents(project)
    assert after.keys() - before.keys() == {DELETED}, "only what is missing is added"
    assert {name for name in before if after.get(name) != before[name]} == set()
