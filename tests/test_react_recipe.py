"""The recipe for React: its files pass the TypeScript compiler, with the types of a project and of React."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .support.npm import BOUND_SECONDS, COMPILER_OPTIONS, install_packages, run

PACKAGES = ("@types/react@19.3.3", "typescript@7.0.2")
MAX_HOOK_LINES, MAX_PAGE_LINES = 40, 80
FILE = re.compile(r"^```tsx\n// (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Beyond --strict: what careful projects add.
STRICTER = {
    "exactOptionalPropertyTypes": True,
    "noImplicitOverride": True,
    "noPropertyAccessFromIndexSignature": True,
    "noUncheckedIndexedAccess": True,
    "noUnusedLocals": True,
    "noUnusedParameters": True,
    "verbatimModuleSyntax": True,
}
# Each is one change of a file that the compiler must refuse.
MISTAKES = {
    "a message that does not exist": (
        "Chat.tsx",
        "{ serverNewMessage: add }",
        "{ serverSang: add }",
    ),
    "a listener for another message": (
        "Chat.tsx",
        "(message: ServerNewMessage) =>",
        "(message: PastMessage[]) =>",
    ),
    "a payload without its field": ("Chat.tsx", "{ text: String", "{ words: String"),
    "a state that does not exist": (
        "Chat.tsx",
        'status.state === "closed"',
        'status.state === "lost"',
    ),
}


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/recipes/react.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler and the types of React."""
    return install_packages(tmp_path_factory.mktemp("react"), PACKAGES)


@pytest.fixture
def sources(tools: Path, page: str, baked: Callable[..., Path]) -> Path:
    """The files of the recipe beside those of a project."""
    shutil.rmtree(tools / "src", ignore_errors=True)
    (tools / "src").mkdir()
    [web] = baked().glob("src/*/web")
    for name in ("realtime.js", "realtime.d.ts"):
        shutil.copy(web / name, tools / "src")
    for name, text in FILE.findall(page):
        (tools / "src" / name).write_text(text, "utf-8")
    options = {**COMPILER_OPTIONS, **STRICTER, "jsx": "react-jsx", "types": ["react"]}
    del options["allowJs"], options["checkJs"]
    (tools / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": options, "include": ["src"]}), "utf-8"
    )
    return tools / "src"


def test_the_hook_and_the_page_are_short(page: str) -> None:
    files = dict(FILE.findall(page))
    assert sorted(files) == ["Chat.tsx", "useRoom.ts"]
    assert files["useRoom.ts"].count("\n") <= MAX_HOOK_LINES
    assert page.count("\n") <= MAX_PAGE_LINES


@pytest.mark.timeout(BOUND_SECONDS)
def test_the_files_pass_the_compiler(tools: Path, sources: Path) -> None:
    assert run(tools, "npx", "--no-install", "tsc", "--project", ".") == ""


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused(tools: Path, sources: Path, mistake: str) -> None:
    name, right, wrong = MISTAKES[mistake]
    text = (sources / name).read_text("utf-8")
    assert text.count(right) == 1
    (sources / name).write_text(text.replace(right, wrong), "utf-8")
    finished = subprocess.run(
        ["npx", "--no-install", "tsc", "--project", "."],
        cwd=tools,
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )
    assert finished.returncode != 0
    assert f"src/{name}" in finished.stdout
