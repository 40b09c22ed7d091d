"""Code blocks of a project's documents, and the changes that adapt them to a test."""

import re
from pathlib import Path


def code_block(project: Path, language: str, document: str) -> str:
    """Return the only block of this language in a document."""
    text = (project / document).read_text("utf-8")
    [block] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(block)


def settings_of(page: Path) -> dict[str, str]:
    """Return the settings in the tables of a project's docs/settings.md with the default, as it is written there."""
    rows = re.findall(r"^\| `(APP_\w+)` \| ([^|]+) \|", page.read_text("utf-8"), re.MULTILINE)
    return {name: cell.strip("`") for name, cell in rows}


def nginx_blocks(project: Path) -> list[str]:
    """Return the changes to nginx's configuration in docs/scaling.md, in their order."""
    text = (project / "docs/scaling.md").read_text("utf-8")
    return re.findall(r" *```nginx\n(.*?) *```", text, re.DOTALL)


def replace_all(text: str, *pairs: tuple[str, str]) -> str:
    """Replace each pair's first text, which has to occur, by its second."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text
