"""The documentation sites of a project and of the template: strict, complete, without requests to other hosts."""

import html
import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from .support.built_site import Site

BUILD_SECONDS = 300
BOUND_SECONDS = 400
REFERENCE = "docs/reference"
TEMPLATE = Path(__file__).resolve().parent.parent / "{{cookiecutter.project_slug}}"
GUIDE = TEMPLATE / "docs/framework/index.md"
PUBLISHING_ACTIONS = {"actions/upload-pages-artifact", "actions/deploy-pages"}
# The first page is reached by the title of the site.
NOT_IN_THE_NAVIGATION = {
    "README.html",
    "index.html",
    "genindex.html",
    "py-modindex.html",
    "search.html",
}


def make_docs(project: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of ``make docs`` with this Python, without the installation."""
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', "utf-8")
    python.chmod(0o755)
    listed = subprocess.run(
        ["make", "-n", "docs"], cwd=project, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    [command] = [line for line in listed.splitlines() if "-m sphinx" in line]
    return subprocess.run(
        ["sh", "-c", command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )


def public_names() -> set[str]:
    """Return the public names: those that the modules export, and those of the guide's second table."""
    names: set[str] = set()
    for module in ("", ".client", ".testing", ".workers", ".publisher", ".uvicorn"):
        exported = importlib.import_module(f"falcon_pachinko{module}").__all__
        names |= {f"falcon_pachinko{module}.{name}" for name in exported}
    table = GUIDE.read_text("utf-8").partition("From its modules:")[2]
    return names | set(re.findall(r"`(falcon_pachinko(?:\.\w+){2,})`", table))


def check_site(site: Site, name: str, guides: str) -> None:
    """Check what both sites have in common; ``guides`` is the folder of a project's pages."""
    assert len(site.pages) > 30
    assert list(site.broken_links()) == []
    assert list(site.external_files()) == []

    # Search: an index of all pages, in a script, so that it works without a server as well.
    index = site.text("searchindex.js")
    assert index.startswith("Search.setIndex(")
    assert f'"{guides}docs/framework/presence"' in index
    assert "grace" in index
    assert 'role="search"' in site.text("README.html")

    # Dark mode: that of the system, and a switch.
    [style] = site.folder.glob("_static/styles/furo.css")
    assert "prefers-color-scheme:dark" in style.read_text("utf-8").replace(" ", "")
    assert "theme-toggle" in site.text("README.html")

    [title] = re.findall(r"<title>([^<]*)</title>", site.text("README.html").partition("<body>")[0])
    assert html.unescape(title) == name
    [brand] = re.findall(r'class="sidebar-brand-text">([^<]*)<', site.text("README.html"))
    assert html.unescape(brand) == name
    navigation = site.navigation()
    assert "More" not in navigation, f"add to SECTIONS in docs/conf.py: {navigation['More']}"
    listed = [page for pages in navigation.values() for page in pages]
    assert sorted(set(listed)) == sorted(listed)
    assert site.pages.keys() - set(listed) == NOT_IN_THE_NAVIGATION

    ids = {
        each
        for page in site.pages
        if page.startswith(f"{guides}{REFERENCE}/")
        for each in site.pages[page].ids
    }
    assert sorted(public_names() - ids) == [], f"missing in {REFERENCE}"


@pytest.mark.timeout(BOUND_SECONDS)
def test_site_of_a_project(baked: Callable[..., Path]) -> None:
    name = 'The "best" <chat> \\ & 😀'
    project = baked(project_name=name)
    finished = make_docs(project)
    assert (finished.returncode, finished.stderr) == (0, "")
    site = Site(project / "build/site")
    check_site(site, name, "")
    for page in (
        "operations",
        "troubleshooting",
        "glossary",
        "framework/index",
        f"{REFERENCE[5:]}/testing",
    ):
        assert f"docs/{page}.html" in site.pages


@pytest.mark.timeout(BOUND_SECONDS)
def test_site_of_the_template(root: Path, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tools.site", str(tmp_path / "site")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    site = Site(tmp_path / "site")
    check_site(site, "pachinko-template", "project/")
    for page in ("docs/tutorial", "docs/comparison", "docs/decisions", "project/docs/glossary"):
        assert f"{page}.html" in site.pages
    assert "project/docs/framework/index.html" in site.pages["README.html"].links


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(
    ("link", "warning"),
    [
        ("page.md#a-heading", ""),
        ("page.md#no-heading", "local id not found"),
        ("#no-heading", "cross-reference target not found"),
        ("nowhere.md", "cross-reference target not found"),
    ],
)
def test_a_broken_link_or_anchor_fails_the_build(
    baked: Callable[..., Path], tmp_path: Path, link: str, warning: str
) -> None:
    project = tmp_path / "small"
    (project / "docs").mkdir(parents=True)
    source = baked()
    for name in ("docs/conf.py", "Makefile", "pyproject.toml"):
        (project / name).write_text((source / name).read_text("utf-8"), "utf-8")
    (project / "README.md").write_text("# Small\n\n[a page](docs/page.md)\n", "utf-8")
    (project / "docs/page.md").write_text(f"# A page\n\n## A heading\n\n[link]({link})\n", "utf-8")
    finished = make_docs(project)
    assert (finished.returncode == 0) == (not warning), finished.stderr
    assert warning in finished.stderr
    assert ("docs/page.md:5" in finished.stderr) == bool(warning)


def test_a_page_that_no_section_lists_is_in_the_navigation(baked: Callable[..., Path]) -> None:
    conf = load(baked() / "docs/conf.py")
    pages = ["docs/rooms", "docs/framework/rooms", "docs/framework/index", "docs/glossary"]
    assert conf["assign"](pages, conf["SECTIONS"]) == {
        "Start": ["docs/glossary"],
        "The framework": ["docs/framework/index", "docs/framework/rooms"],
        "More": ["docs/rooms"],
    }


def load(path: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    return names


def requirements(path: Path, extra: str) -> set[str]:
    declared = tomllib.loads(path.read_text("utf-8"))["project"]["optional-dependencies"]
    return set(declared[extra])


def test_a_project_and_the_template_build_with_the_same_versions(
    baked: Callable[..., Path], root: Path
) -> None:
    of_a_project = requirements(baked() / "pyproject.toml", "docs")
    assert of_a_project <= requirements(root / "pyproject.toml", "dev")
    for requirement in map(Requirement, of_a_project):
        assert str(requirement.specifier) == f"=={importlib.metadata.version(requirement.name)}"


def test_names_of_the_tools_dependencies_are_rejected(
    baked: Callable[..., Path], root: Path
) -> None:
    hook = (root / "hooks/pre_gen_project.py").read_text("utf-8")
    [block] = re.findall(r'DISTRIBUTIONS = frozenset\(\s+"""(.*?)"""', hook, re.DOTALL)
    left = [Requirement(each) for each in requirements(baked() / "pyproject.toml", "docs")]
    names: set[str] = set()
    while left:
        requirement = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        left += map(Requirement, importlib.metadata.requires(name) or ())
    assert {"sphinx", "jinja2", "sphinx-basic-ng"} <= names
    assert names - set(block.split()) == set()


def test_the_workflow_publishes_only_where_the_owner_wants_it(
    baked: Callable[..., Path], root: Path
) -> None:
    path = baked() / ".github/workflows/docs.yml"
    assert path.read_text("utf-8") == (root / ".github/workflows/docs.yml").read_text("utf-8")
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    wanted = "vars.PUBLISH_DOCS == 'true' && github.event_name != 'pull_request'"
    assert "permissions" not in build
    assert "if" not in build
    assert [step["run"] for step in build["steps"] if "run" in step] == ["make docs"]
    assert build["steps"][-1]["if"] == wanted
    assert build["steps"][-1]["with"] == {"path": "build/site"}
    assert publish["if"] == wanted
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    uses = re.findall(r"uses: (.+)", path.read_text("utf-8"))
    for action in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert {action.partition("@")[0] for action in uses} > PUBLISHING_ACTIONS
    ci = re.findall(r"uses: (.+)", (root / ".github/workflows/ci.yml").read_text("utf-8"))
    assert set(ci) < set(uses)
