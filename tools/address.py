"""Set the address of this repository in every document: ``python -m tools.address OWNER/REPOSITORY``.

The address stands in ``pyproject.toml`` (``[project.urls]``); without an argument it is printed. As long as the
repository is not published it is a placeholder, ``org/pachinko-template``.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "https://github.com/"
NOT_OURS = {".git", ".venv", "build"}


def address(root: Path = ROOT) -> str:
    """Return the owner and the name of the repository, such as ``org/pachinko-template``."""
    declared = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    url: str = declared["project"]["urls"]["Repository"]
    return url.removeprefix(HOST)


def set_address(new: str, root: Path = ROOT) -> list[Path]:
    """Replace the address in ``pyproject.toml`` and in all documents, and return the changed files.

    Raises:
        ValueError: The new one is not the owner and the name of a repository of GitHub.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise ValueError(f"{new!r} is not OWNER/REPOSITORY")
    old = re.compile(rf"(?<=gh:|om/){re.escape(address(root))}\b")
    changed = []
    for path in (root / "pyproject.toml", *sorted(root.rglob("*.md"))):
        if NOT_OURS.isdisjoint(path.relative_to(root).parts):
            text = path.read_text("utf-8")
            if old.search(text):
                path.write_text(old.sub(new, text), "utf-8")
                changed.append(path)
    return changed


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(address())
    else:
        for changed_path in set_address(sys.argv[1]):
            print(changed_path.relative_to(ROOT))
