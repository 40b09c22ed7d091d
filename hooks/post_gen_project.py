"""Create the secret for development, remove caches and print the next steps."""

import os
import pathlib
import secrets
import shutil

ENVIRONMENT_FILE = ".env"


def open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


try:
    with open(ENVIRONMENT_FILE, "x", encoding="ascii", opener=open_privately) as environment:
        environment.write(f"APP_ENVIRONMENT=development\nAPP_SECRET={secrets.token_urlsafe(48)}\n")
    new = not pathlib.Path(".git").exists()
except FileExistsError:
    new = False  # Hooks run again on an update, and on cookiecutter --overwrite-if-exists.

# Cookiecutter copies every file of the template's folder, including caches of tools. In an existing
# project they are the owner's: .hypothesis holds failing examples.
CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
if new:
    for path in sorted(pathlib.Path().rglob("*")):
        if path.name in CACHES and ".venv" not in path.parts:
            shutil.rmtree(path, ignore_errors=True)

print(
    """\
Next steps:

    cd {{ cookiecutter.project_slug }}
    make run     # serve on http://127.0.0.1:8000
    make test    # run the tests"""
)
