"""What the files of this package were when it came: whoever owns a project may change them, and can ask which."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
MANIFEST = PACKAGE / "MANIFEST"


def checksums(package: Path = PACKAGE) -> dict[str, str]:
    """The SHA-256 of each file of the package as it is now, by its path in the package.

    Line ends do not count: git may have changed them.
    """
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(
            path.read_bytes().replace(b"\r\n", b"\n")
        ).hexdigest()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.name != MANIFEST.name and path.suffix != ".pyc"
    }


def render(version: str, sums: dict[str, str]) -> str:
    """The manifest's text; the lines after the first are what ``sha256sum --check`` reads."""
    lines = [f"# falcon_pachinko {version}", *(f"{sums[name]}  {name}" for name in sorted(sums))]
    return "\n".join(lines) + "\n"


def parse(text: str) -> tuple[str, dict[str, str]]:
    """The version of a manifest and its checksums.

    Raises:
        ValueError: It is no manifest.
    """
    first, *lines = text.splitlines() or [""]
    version = first.removeprefix("# falcon_pachinko ")
    pairs = [line.split("  ", 1) for line in lines]
    if version == first or not all(len(pair) == 2 for pair in pairs):
        raise ValueError("MANIFEST is not one: take it from the template again")
    return version, {name: checksum for checksum, name in pairs}


def differences(package: Path = PACKAGE) -> tuple[str, list[str]]:
    """The version that came, and a line for each file that is another now, is missing or is new.

    Raises:
        OSError: There is no manifest.
        ValueError: It is not one.
    """
    version, came = parse((package / MANIFEST.name).read_text("utf-8"))
    here = checksums(package)
    found = []
    for name in sorted(came.keys() | here.keys()):
        if name not in here:
            found.append(f"missing: {name}")
        elif name not in came:
            found.append(f"added: {name}")
        elif here[name] != came[name]:
            found.append(f"changed: {name}")
    return version, found
