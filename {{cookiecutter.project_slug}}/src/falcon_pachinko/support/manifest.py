"""Checksums of the vendored files, to find those that a project has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
MANIFEST = PACKAGE / "MANIFEST"


def checksums(package: Path = PACKAGE) -> dict[str, str]:
    """Return the SHA-256 of each file of the package by its relative path.

    Line endings are ignored, because git may convert them.
    """
    return {
        path.relative_to(package).as_posix(): hashlib.sha256(
            path.read_bytes().replace(b"\r\n", b"\n")
        ).hexdigest()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.name != MANIFEST.name and path.suffix != ".pyc"
    }


def render(version: str, sums: dict[str, str]) -> str:
    """Return the text of a manifest; ``sha256sum --check`` reads the lines after the first."""
    lines = [f"# falcon_pachinko {version}", *(f"{sums[name]}  {name}" for name in sorted(sums))]
    return "\n".join(lines) + "\n"


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Return the version and the checksums of a manifest.

    Raises:
        ValueError: The text is not a manifest.
    """
    first, *lines = text.splitlines() or [""]
    version = first.removeprefix("# falcon_pachinko ")
    pairs = [line.split("  ", 1) for line in lines]
    if version == first or not all(len(pair) == 2 for pair in pairs):
        raise ValueError("MANIFEST is not valid: restore it from the template")
    return version, {name: checksum for checksum, name in pairs}


def differences(package: Path = PACKAGE) -> tuple[str, list[str]]:
    """Return the vendored version, and a line for each missing, added or changed file.

    Raises:
        OSError: The manifest is missing.
        ValueError: The manifest is not valid.
    """
    version, expected = parse((package / MANIFEST.name).read_text("utf-8"))
    actual = checksums(package)
    lines = []
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            lines.append(f"missing: {name}")
        elif name not in expected:
            lines.append(f"added: {name}")
        elif actual[name] != expected[name]:
            lines.append(f"changed: {name}")
    return version, lines
