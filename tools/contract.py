"""Writes the template's asyncapi.yaml and realtime.d.ts anew, by way of a project that is baked from it.

Run it (``make asyncapi``) when a message, or the way in which the framework describes one, has changed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parents[1]
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
BAKED = TEMPLATE / "build" / "contract"

# Answers that nothing else in the files looks like.
ANSWERS = {
    "project_name": "AnsweredName",
    "project_slug": BAKED.name,
    "package_name": "baked",
    "description": "AnsweredDescription",
    "resource_name": "AnsweredResource",
    "websocket_path": "/answered/path",
    "license": "ISC",
}
# What the files say for the answers, in strings and keys alike.
RENDERED = {
    "title: AnsweredName": 'title: "{{ cookiecutter.__project_name_escaped }}"',
    "description: AnsweredDescription": 'description: "{{ cookiecutter.__description_escaped }}"',
    "name: ISC": 'name: "{{ cookiecutter.__license_expression }}"',
    "address: /answered/path/{room_name}": 'address: "{{ cookiecutter.websocket_path }}/{room_name}"',
    "/answered/path": "{{ cookiecutter.websocket_path }}",
    "title: AnsweredResource": 'title: "{{ cookiecutter.resource_name }}"',
    "  answeredResource:": '  "{{ cookiecutter.__channel }}":',
    "answeredResource": "{{ cookiecutter.__channel }}",
    "AnsweredResource": "{{ cookiecutter.resource_name }}",
}


def main() -> None:
    """Bake a project, let it write its contract, and put the questions back in the place of the answers."""
    shutil.rmtree(BAKED, ignore_errors=True)
    cookiecutter(
        str(TEMPLATE),
        no_input=True,
        default_config=True,
        extra_context=ANSWERS,
        output_dir=str(BAKED.parent),
    )
    document = BAKED / "asyncapi.yaml"
    document.unlink()
    subprocess.run(["make", "--silent", "-C", str(BAKED), "asyncapi"], check=True)
    for written, place in {
        document: PROJECT / "asyncapi.yaml",
        BAKED / "src/baked/web/realtime.d.ts": PROJECT
        / "src/{{cookiecutter.package_name}}/web/realtime.d.ts",
    }.items():
        text = written.read_text(encoding="utf-8")
        for answer, question in RENDERED.items():
            text = text.replace(answer, question)
        if "nswered" in text:
            sys.exit(f"{place.name} has an answer in a place that tools/contract.py does not know")
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
