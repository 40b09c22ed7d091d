"""A project baked from valid answers has the expected files and contents."""

import datetime
import fnmatch
import json
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from pytest_cookies.plugin import Result

Baked = Callable[..., Path]

PYTHON_VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
LICENSES = {
    "MIT": ("MIT", "MIT License"),
    "BSD-3-Clause": ("BSD-3-Clause", "BSD 3-Clause License"),
    "Apache-2.0": ("Apache-2.0", "Apache License"),
    "ISC": ("ISC", "ISC License"),
    "Proprietary": ("LicenseRef-Proprietary", "All rights reserved."),
}
VARIABLES = json.loads((Path(__file__).parent.parent / "cookiecutter.json").read_text("utf-8"))


def files(project: Path) -> Iterator[Path]:
    return (path for path in sorted(project.rglob("*")) if path.is_file())


def is_copied(path: Path) -> bool:
    return any(
        fnmatch.fnmatch(str(each), pattern)
        for each in (path, *path.parents)
        for pattern in VARIABLES["_copy_without_render"]
    )


def ruff(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_questions_are_asked_in_a_fixed_order() -> None:
    questions = [name for name in VARIABLES if not name.startswith("_")]
    assert questions == [
        "project_name",
        "project_slug",
        "package_name",
        "description",
        "author_name",
        "author_email",
        "resource_name",
        "websocket_path",
        "room_prefix",
        "python_version",
        "license",
    ]
    assert list(VARIABLES["__prompts__"]) == questions
    assert VARIABLES["python_version"] == PYTHON_VERSIONS
    assert VARIABLES["license"] == list(LICENSES)


def test_defaults_derive_from_the_project_name(bake: Callable[..., Result]) -> None:
    context = bake(project_name="Ünïted  Chat 2.0").context
    assert context["project_slug"] == "united-chat-2-0"
    assert context["package_name"] == "united_chat_2_0"
    assert context["resource_name"] == "ChatRoom"
    assert context["websocket_path"] == "/ws/chat"
    assert context["room_prefix"] == "chat_"


@pytest.mark.parametrize(
    ("project_name", "slug", "package"),
    [("2 Chats", "2-chats", "app_2_chats"), ("😀", "chat-service", "chat_service")],
)
def test_names_without_a_leading_ascii_letter_get_valid_defaults(
    bake: Callable[..., Result], project_name: str, slug: str, package: str
) -> None:
    result = bake(project_name=project_name)
    assert result.exception is None
    assert result.project_path.name == slug
    assert (result.project_path / "src" / package).is_dir()


@pytest.mark.parametrize("name", ["project_nam", "__year"])
def test_bake_fixture_rejects_unknown_answers(bake: Callable[..., Result], name: str) -> None:
    with pytest.raises(AssertionError, match=f"not in cookiecutter.json: {name}"):
        bake(**{name: "x"})


def test_project_has_its_required_files(baked: Baked) -> None:
    project = baked()
    for name in (
        ".dockerignore",
        ".editorconfig",
        ".env",
        ".env.example",
        ".gitattributes",
        ".github/dependabot.yml",
        ".github/workflows/ci.yml",
        ".github/workflows/docs.yml",
        ".gitignore",
        ".pre-commit-config.yaml",
        "AGENTS.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Dockerfile",
        "LICENSE",
        "Makefile",
        "README.md",
        "asyncapi.yaml",
        "compose.yaml",
        "deploy/nginx.conf",
        "docs/architecture.md",
        "docs/conf.py",
        "docs/decisions.md",
        "docs/framework/index.md",
        "docs/glossary.md",
        "docs/guide.md",
        "docs/messages.md",
        "docs/operations.md",
        "docs/protocol.md",
        "docs/scaling.md",
        "docs/settings.md",
        "pyproject.toml",
        "tools/axe.py",
        "tools/environment.py",
        "src/chat_service/__main__.py",
        "src/chat_service/app.py",
        "src/chat_service/asgi.py",
        "src/chat_service/resources/chat_room.py",
        "src/chat_service/web/index.html",
        "src/falcon_pachinko/__init__.py",
        "src/falcon_pachinko/py.typed",
    ):
        assert (project / name).is_file(), name


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ChatRoom2", "chat_room2"),
        ("HTTPServer", "http_server"),
        ("Lobby", "lobby"),
        ("X", "x"),
    ],
)
def test_resource_name_and_path_set_class_module_and_route(
    baked: Baked, name: str, module: str
) -> None:
    project = baked(resource_name=name, websocket_path="/live/v1.0/~rooms", package_name="hello")
    package = project / "src" / "hello"
    source = (package / "resources" / f"{module}.py").read_text("utf-8")
    assert re.search(rf"^class {name}Resource\b", source, re.MULTILINE)
    served = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    assert "/live/v1.0/~rooms" in served
    assert "/ws/chat" not in served
    default_class = "ChatRoomResource"
    assert not any(default_class in path.read_text("utf-8") for path in package.rglob("*.py"))


def test_framework_and_pages_are_copied_unrendered(baked: Baked, root: Path) -> None:
    project = baked()
    template = root / "{{cookiecutter.project_slug}}"
    for name in ("src/falcon_pachinko", "src/chat_service/web"):
        original = template / name.replace("chat_service", "{{cookiecutter.package_name}}")
        copied = [path for path in files(original) if is_copied(path.relative_to(template))]
        assert len(copied) >= 3
        for path in copied:
            assert path.read_bytes() == (project / name / path.relative_to(original)).read_bytes()


def test_inner_pyproject_is_valid_toml_before_rendering(root: Path) -> None:
    inner = root / "{{cookiecutter.project_slug}}" / "pyproject.toml"
    assert tomllib.loads(inner.read_text("utf-8"))["tool"]["ruff"]["line-length"] == 100


@pytest.mark.parametrize(
    "answers",
    [
        {"package_name": "a", "resource_name": "A"},
        {"package_name": "aaa_early", "resource_name": "Aardvark"},
        {"package_name": "zzz_late", "resource_name": "Zebra"},
        {
            "package_name": "a_package_with_a_name_of_more_than_forty_characters",
            "resource_name": "ResourceWithANameOfMoreThanFortyCharactersInAll",
            "websocket_path": "/a/websocket/path/that/is/longer/than/forty/characters/in/all",
        },
        {"room_prefix": 'it\'s "quoted" \\ 房间 😀 '},
        {"room_prefix": '""'},
        {"room_prefix": "'\"" * 20},
        *({"python_version": version} for version in PYTHON_VERSIONS),
    ],
    ids=lambda answers: "-".join(answers.values())[:40],
)
def test_project_is_ruff_clean_with_any_names(baked: Baked, answers: dict[str, str]) -> None:
    project = baked(**answers)
    lint, layout = ruff(project, "check"), ruff(project, "format", "--diff")
    assert lint.returncode == 0, lint.stdout
    assert layout.returncode == 0, layout.stdout


@pytest.mark.parametrize("version", PYTHON_VERSIONS)
def test_python_version_reaches_every_tool(baked: Baked, version: str) -> None:
    project = baked(python_version=version)
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["requires-python"] == f">={version}"
    assert pyproject["tool"]["ruff"]["target-version"] == "py" + version.replace(".", "")
    assert pyproject["tool"]["mypy"]["python_version"] == version
    assert f"FROM python:{version}-slim AS base\n" in (project / "Dockerfile").read_text("utf-8")
    workflow = yaml.safe_load((project / ".github/workflows/ci.yml").read_text("utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    assert tested == PYTHON_VERSIONS[PYTHON_VERSIONS.index(version) :]


@pytest.mark.parametrize("license_name", LICENSES)
def test_license_has_year_and_holder(baked: Baked, license_name: str) -> None:
    project = baked(license=license_name, author_name="Zoë Ω & Sons")
    expression, title = LICENSES[license_name]
    text = (project / "LICENSE").read_text("utf-8")
    year = datetime.datetime.now(datetime.UTC).year
    assert title in text
    assert re.search(rf"Copyright (\(c\) )?{year} Zoë Ω & Sons", text)
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["license"] == expression


@pytest.mark.parametrize(
    ("email", "author"),
    [
        ("ada@example.com", {"name": "Ada", "email": "ada@example.com"}),
        (" ", {"name": "Ada"}),
        ("", {"name": "Ada"}),
        ("adä@exämple.com", {"name": "Ada <adä@exämple.com>"}),
    ],
)
def test_author_has_an_email_if_given(baked: Baked, email: str, author: dict[str, str]) -> None:
    project = baked(author_name="Ada", author_email=email)
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["authors"] == [author]


def test_hooks_print_only_the_next_steps(baked: Baked, capfd: pytest.CaptureFixture[str]) -> None:
    project = baked(project_slug="My.Chat_1")
    output, errors = capfd.readouterr()
    assert re.findall(r"^    (\S+ \S+)", output, re.MULTILINE) == [
        f"cd {project.name}",
        "make run",
        "make test",
    ]
    assert len(output.splitlines()) == 5
    assert errors == ""


def test_each_project_has_its_own_secret_readable_by_the_owner_only(baked: Baked) -> None:
    environments = [baked() / ".env" for _ in range(2)]
    secrets = set()
    for environment in environments:
        settings = dict(line.split("=", 1) for line in environment.read_text("ascii").splitlines())
        assert settings.keys() == {"APP_ENVIRONMENT", "APP_SECRET"}
        assert settings["APP_ENVIRONMENT"] == "development"
        assert len(settings["APP_SECRET"]) >= 32
        assert stat.S_IMODE(environment.stat().st_mode) == 0o600
        secrets.add(settings["APP_SECRET"])
    assert len(secrets) == 2


def test_hook_keeps_an_existing_secret(baked: Baked, root: Path) -> None:
    project = baked()
    before = (project / ".env").read_bytes()
    hook = root / "hooks" / "post_gen_project.py"
    subprocess.run([sys.executable, hook], cwd=project, check=True, capture_output=True, timeout=10)
    assert (project / ".env").read_bytes() == before


def test_each_pinned_version_stands_in_one_place(baked: Baked) -> None:
    project = baked()
    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    pins = [
        requirement
        for extra in pyproject["optional-dependencies"].values()
        for requirement in extra
        if "==" in requirement
    ]
    assert "pre-commit" in {pin.partition("==")[0] for pin in pins}
    for path in project.rglob("*"):
        # `make lock` writes the requirements files.
        if path.is_file() and not path.name.startswith(("pyproject", "requirements")):
            text = path.read_bytes().decode("utf-8", "ignore")
            assert not [pin for pin in pins if pin in text], path


def test_template_pins_the_same_tools_as_its_projects(baked: Baked, root: Path) -> None:
    def pins(pyproject: Path) -> dict[str, str]:
        dev = tomllib.loads(pyproject.read_text("utf-8"))["project"]["optional-dependencies"]["dev"]
        return dict(requirement.split("==") for requirement in dev if "==" in requirement)

    project, template = pins(baked() / "pyproject.toml"), pins(root / "pyproject.toml")
    for tool in ("mypy", "pytest", "pytest-timeout", "ruff"):
        assert project[tool] == template[tool]


def test_extras_are_installed_with_the_project_in_place(root: Path) -> None:
    """Without ``-e`` a project runs on a copy of itself, and its changes have no effect."""
    project = root / "{{cookiecutter.project_slug}}"
    texts = [path for path in project.rglob("*") if path.suffix in {".md", ".py", ".toml"}]
    texts += [root / "README.md", *(root / "docs").rglob("*.md")]
    found = [
        line
        for path in texts
        for line in re.findall(r"\S*pip install .*?['\"]?\.\[[a-z]+\]", path.read_text("utf-8"))
    ]
    # The environment of a service that is served has a copy.
    developing = [line for line in found if not line.startswith("service/")]
    assert len(developing) >= 8
    assert [line for line in developing if "install -e " not in line] == []
