"""The application, for an ASGI server that is started by its own command."""

import re
import sys

from .app import create_app
from .settings import load_settings


def count_workers(command: list[str]) -> int:
    """How many processes the server's command asks for: uvicorn, Gunicorn and Hypercorn are told in the same words."""
    asked = re.findall(r"\s(?:-w|--workers)[\s=]?(\d+)(?=\s|$)", " ".join(["", *command]))
    return int(asked[-1]) if asked else 1


settings = load_settings()
workers = max(settings.workers, count_workers(sys.argv[1:]))
app = create_app(settings.model_copy(update={"workers": workers}))
