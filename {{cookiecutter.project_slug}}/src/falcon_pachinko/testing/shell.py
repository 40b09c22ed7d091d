"""The environment of a test run, without what a developer's shell sets for other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

# They colour or wrap the output that tests read, add options to programs that tests start, or choose a database.
UNWANTED = frozenset(
    (
        *("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "PYTHON_COLORS", "PY_COLORS"),
        *("GUNICORN_CMD_ARGS", "PIP_PREFIX", "PIP_TARGET", "PIP_USER", "PYTEST_ADDOPTS"),
        *("LANG", "LANGUAGE", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "WEB_CONCURRENCY"),
        *("PGDATABASE", "PGHOST", "PGHOSTADDR", "PGOPTIONS", "PGPASSWORD", "PGPORT", "PGSERVICE"),
        *("PGSSLMODE", "PGUSER"),
    )
)
UNWANTED_PREFIXES = ("LC_", "OTEL_", "UVICORN_")
PROXIES = frozenset({"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "WS_PROXY", "WSS_PROXY"})
NOT_PROXIED = "127.0.0.1,::1,localhost"
# The path of a Unix socket has 103 bytes at most on macOS, and pytest's folders take more than half of them.
TEMPORARY_FOLDER_BYTES = 30
SHORT_FOLDER = "/tmp"


def clean_environment(prefixes: Iterable[str] = (), *, keep_proxies: bool = False) -> None:
    """Remove from ``os.environ`` what makes tests depend on the shell that starts them; idempotent.

    Call it in ``pytest_configure`` of the outermost ``conftest.py`` with ``trylast=True``: pytest has then read its own
    variables, and no test, fixture or worker of pytest-xdist has started.

    - Colours, widths, languages, options for pip, pytest and ASGI servers, and defaults of PostgreSQL are removed.
      Without a language Python and its children use UTF-8 (PEP 538 and PEP 540).
    - Proxies are removed, or kept for other hosts than this one.
    - A temporary folder whose path has more than 30 bytes is replaced by ``/tmp`` where that can be written to,
      because sockets below it would have too long paths.

    Args:
        prefixes: Prefixes of the service's own variables, such as ``"APP_"``, in upper case.
        keep_proxies: Whether proxies stay, for tests that install packages.
    """
    unwanted_prefixes = (*UNWANTED_PREFIXES, *prefixes)
    for name in list(os.environ):
        upper = name.upper()
        is_proxy = upper in PROXIES and not keep_proxies
        if upper in UNWANTED or is_proxy or upper.startswith(unwanted_prefixes):
            del os.environ[name]
    if keep_proxies:
        either = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        for name in ("NO_PROXY", "no_proxy"):
            given = os.environ.get(name) or either
            if NOT_PROXIED not in given:
                given = f"{given},{NOT_PROXIED}" if given else NOT_PROXIED
            os.environ[name] = given
    if len(os.fsencode(tempfile.gettempdir())) > TEMPORARY_FOLDER_BYTES:
        use_short_folder()


def use_short_folder() -> None:
    """Let this process and its children create temporary files in ``/tmp``, if that can be written to."""
    if os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        os.environ["TMPDIR"] = tempfile.tempdir = SHORT_FOLDER
