"""Regenerate asyncapi.yaml and realtime.d.ts from a baked project (``make asyncapi``).

Run it after a change of a message, or of the framework's description of messages.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parents[1]
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
BAKED = TEMPLATE / "build" / "contract"

# Answers that occur nowhere else in the files.
ANSWERS = {
    "project_name": "AnsweredName",
    "project_slug": BAKED.name,
    "package_name": "baked",
    "description": "AnsweredDescription",
    "resource_name": "AnsweredResource",
    "websocket_path": "/answered/path",
    "license": "ISC",
}
# The template's text for each answer.
TEMPLATE_TEXTS = {
    "title: AnsweredName": 'title: "{{ cookiecutter.__project_name_escaped }}"',
    "description: AnsweredDescription": 'description: "{{ cookiecutter.__description_escaped }}"',
    "name: ISC": 'name: "{{ cookiecutter.__license_expression }}"',
    "name: __Host-contract-session": 'name: "__Host-{{ cookiecutter.project_slug }}-session"',
    "address: /answered/path/{room_name}": 'address: "{{ cookiecutter.websocket_path }}/{room_name}"',
    "/answered/path": "{{ cookiecutter.websocket_path }}",
    "title: AnsweredResources": 'title: "{{ cookiecutter.resource_name }}s"',
    "title: AnsweredResource": 'title: "{{ cookiecutter.resource_name }}"',
    "  answeredResources:": '  "{{ cookiecutter.__channel }}s":',
    "  answeredResource:": '  "{{ cookiecutter.__channel }}":',
    "answeredResource": "{{ cookiecutter.__channel }}",
    "AnsweredResource": "{{ cookiecutter.resource_name }}",
}


def main() -> None:
    """Bake a project, generate its contract, and replace the answers with template variables."""
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
    for generated, target in {
        document: PROJECT / "asyncapi.yaml",
        BAKED / "src/baked/web/realtime.d.ts": PROJECT
        / "src/{{cookiecutter.package_name}}/web/realtime.d.ts",
    }.items():
        text = generated.read_text(encoding="utf-8")
        for answer, variable in TEMPLATE_TEXTS.items():
            text = text.replace(answer, variable)
        if "nswered" in text:
            sys.exit(f"{target.name} contains an answer that TEMPLATE_TEXTS does not replace")
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
