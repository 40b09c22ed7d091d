"""Writes the manifest of the framework anew (``make manifest``), or prints it with ``--print``."""

import re
import sys
from pathlib import Path

from falcon_pachinko.support import manifest

VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def wanted(package: Path) -> str:
    """What the manifest of a package should say."""
    found = VERSION.search((package / "__init__.py").read_text("utf-8"))
    assert found, "falcon_pachinko has no __version__"
    return manifest.render(found[1], manifest.checksums(package))


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(wanted(manifest.PACKAGE))
    else:
        manifest.MANIFEST.write_text(wanted(manifest.PACKAGE), "utf-8")
