"""Make the local secret and say what is left to do."""

import os
import secrets

ENVIRONMENT_FILE = ".env"


def open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


try:
    with open(ENVIRONMENT_FILE, "x", encoding="ascii", opener=open_privately) as environment:
        environment.write(f"APP_ENVIRONMENT=development\nAPP_SECRET={secrets.token_urlsafe(48)}\n")
except FileExistsError:
    pass  # Hooks run again when the project is updated from its template.

print(
    """\
What is left to do:

    cd {{ cookiecutter.project_slug }}
    make run     # serves it on http://127.0.0.1:8000
    make test    # runs its tests"""
)
