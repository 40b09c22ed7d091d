"""Each project runs on its own framework, also beside another project in the same environment.

Every project of the template brings a package ``falcon_pachinko``, and Python imports the first one
that it finds. Delete this module if several projects share one framework on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "{{ cookiecutter.project_slug }}"
SOURCES = Path(__file__).resolve().parents[1]
MANIFEST = "falcon_pachinko/MANIFEST"
# The status of uvicorn and Gunicorn for a worker process that is not to be started again.
STARTUP_FAILURE = 3


def check_framework() -> None:
    """Check that ``falcon_pachinko`` is the one beside this package.

    Raises:
        SystemExit: It is that of another project; the text names both folders and the remedy.
    """
    framework = importlib.util.find_spec("falcon_pachinko")
    if framework is None or framework.origin is None or not (SOURCES / MANIFEST).exists():
        return
    found = Path(framework.origin).resolve().parents[1]
    remedy = ""
    if found != SOURCES:
        remedy = f"give each project its own environment, or put {SOURCES} first into PYTHONPATH"
    elif replaced():
        remedy = "give each project its own environment, and install this one there"
    if remedy:
        text = f"falcon_pachinko in {found} belongs to another project than {DISTRIBUTION}"
        print(f"The package {text}: {remedy}.", file=sys.stderr)
        sys.exit(STARTUP_FAILURE)


def replaced() -> bool:
    """Return whether another project's wheel has written its framework over the installed one."""
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return False
    for file in files:
        if file.as_posix() != MANIFEST or file.hash is None:
            continue  # The record of an editable installation does not list it.
        if Path(str(file.locate())).resolve() == SOURCES / MANIFEST:
            digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value
    return False
