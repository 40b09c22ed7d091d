"""Special characters in answers are kept as data: nothing in them is rendered or run."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pytest_cookies.plugin import Result

MARKER = "an-answer-ran"
CODE = f"open({MARKER!r}, 'w')"

TEXTS = {
    "double quotes": 'the "best" chat',
    "single quotes": "Ada's 'own' chat",
    "triple double quotes": f'"""+{CODE}+"""',
    "triple single quotes": f"'''+{CODE}+'''",
    "a quote at the end": 'ends with "',
    "only quotes": '""""""',
    "a backslash": r"C:\new\table \u0041 \N{DASH}",
    "a backslash at the end": "ends with \\",
    "backslashes before a quote": r"\\\"",
    "code on a line": f'x"); {CODE} #',
    "a shell command": f"$(id) `id`; touch {MARKER}",
    "make and compose variables": "$(shell id) ${HOME} $$ $HOME",
    "emoji": "👩‍💻 talks 😀🏳️‍🌈",
    "Chinese": "聊天室，你好",
    "right to left": "דברו איתנו \u202bمرحبا\u202c",
    "combining marks": "Zo\u0308e\u0301",
    "TOML and YAML": "[t] # &a *x: !!python {a: b} | > - ? %",
    "markup": "<script>alert(1)</script> &amp; <!--",
    "Jinja": "{% raw %}{{ cookiecutter.__class__ }} {# x #}{% endraw %}",
    "a Jinja tag": "{{ '{%' }} raw {{ '%}' }}",
    "percent and braces": "%s {0} {name} %(x)d",
    "spaces around": "  chat  ",
    "a byte order mark": "\ufeffchat",
}
RENDERED = {
    TEXTS["Jinja"]: "{{ cookiecutter.__class__ }} {# x #}",
    TEXTS["a Jinja tag"]: "{% raw %}",
}
# Room names cannot begin with these texts.
PREFIXES = {
    TEXTS["right to left"]: "דברו איתנו مرحبا",
    TEXTS["combining marks"]: "Zöé",
    TEXTS["spaces around"]: "chat  ",
    TEXTS["a byte order mark"]: "chat",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_project_works_with_special_characters_in_texts(
    bake: Callable[..., Result],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    prefix = PREFIXES.get(text, text).replace("\u200d", "")
    result = bake(project_name=text, description=text, author_name=text, room_prefix=prefix)
    assert result.exception is None
    project = result.project_path
    answer = RENDERED.get(text, text)

    pyproject = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert pyproject["description"] == answer
    assert pyproject["authors"][0]["name"] == answer
    assert answer in (project / "LICENSE").read_text("utf-8")

    for path in project.rglob("*"):
        if path.suffix in {".yaml", ".yml"}:
            assert yaml.safe_load(path.read_text("utf-8"))
        elif path.suffix == ".json":
            assert json.loads(path.read_text("utf-8"))

    document = yaml.safe_load((project / "asyncapi.yaml").read_text("utf-8"))
    assert document["info"]["title"] == answer

    # The framework does not depend on the answers.
    compiled = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-X", f"pycache_prefix={tmp_path / 'pycache'}"),
            *("-m", "compileall", "-q", "-x", "falcon_pachinko", "."),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert compiled.returncode == 0, compiled.stdout
    layout = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--diff", "."],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert layout.returncode == 0, layout.stdout
    assert not list(tmp_path.rglob(MARKER))


def test_answers_typed_at_a_prompt_are_not_rendered(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    typed = "{{ 7 * 7 }}{% raise %}"
    answers = [typed, "typed-chat", "", typed, typed, "", "", "", "", "", ""]
    finished = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(root), "--output-dir", str(tmp_path)],
        input="\n".join(answers) + "\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 0, finished.stderr
    pyproject = tomllib.loads((tmp_path / "typed-chat" / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["description"] == typed
