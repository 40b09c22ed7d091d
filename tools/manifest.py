"""Regenerate the manifest of the framework (``make manifest``), or print it with ``--print``."""

import re
import sys
from pathlib import Path

from falcon_pachinko.support import manifest

VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def current_manifest(package: Path) -> str:
    """Return the manifest of the current files of a package."""
    found = VERSION.search((package / "__init__.py").read_text("utf-8"))
    assert found, "falcon_pachinko has no __version__"
    return manifest.render(found[1], manifest.checksums(package))


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(current_manifest(manifest.PACKAGE))
    else:
        manifest.MANIFEST.write_text(current_manifest(manifest.PACKAGE), "utf-8")
