"""The URL of the database of messages: which forms ``APP_DATABASE_URL`` has, and what they mean."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

STORE_FILE = "messages.db"
NO_STORE = "none"
SQLITE_PREFIX = "sqlite:///"
POSTGRESQL_SCHEMES = ("postgresql", "postgres")
FORMS = (
    "write sqlite:///path/of/a/file, postgresql://user:password@host:5432/database, or none to store no"
    " message; percent-encode a password (@ is %40, / is %2F)"
)


def check_store_url(url: str) -> None:
    """Refuse a URL that no store accepts; connects to nothing.

    Raises:
        ValueError: It has another form, or needs the extra ``postgres``. The text does not contain the URL,
            which may have a password.
    """
    if url in ("", NO_STORE):
        return
    if url.startswith(SQLITE_PREFIX):
        if sqlite_path(url) in (Path(), Path(":memory:")):
            raise ValueError(f"it names no file: {FORMS}")
        return
    try:
        parts = urlsplit(url)
        is_known = parts.scheme in POSTGRESQL_SCHEMES and url.startswith(f"{parts.scheme}://")
        # SECURITY: the part of a password behind an @ would be taken for the host, and named as such.
        is_clear = parts.netloc.count("@") <= 1
        is_valid = is_known and is_clear and (parts.port is None or parts.port > 0)
    except ValueError:  # SECURITY: its text quotes a part of the URL.
        is_valid = False
    if not is_valid:
        raise ValueError(f"it is not the URL of a database: {FORMS}")
    if find_spec("psycopg") is None:
        raise ValueError(
            "PostgreSQL needs the extra 'postgres': python -m pip install -e '.[postgres]'"
        )


def resolve_store_url(url: str, state_folder: str) -> str:
    """Return the URL that the service uses: ``sqlite:///...`` or ``postgresql://...``; empty to store nothing.

    Args:
        url: A URL that :func:`check_store_url` accepts. Empty: a file in the state folder.
        state_folder: The folder; if it is empty as well, nothing is stored.
    """
    if url == NO_STORE or not (url or state_folder):
        return ""
    return url or f"{SQLITE_PREFIX}{Path(state_folder, STORE_FILE)}"


def sqlite_path(url: str) -> Path | None:
    """Return the file that a URL names: all after ``sqlite:///``, unchanged; ``None`` for PostgreSQL."""
    path = url.removeprefix(SQLITE_PREFIX)
    return None if path == url else Path(path)
