"""The application for an ASGI server with its own command, such as ``uvicorn`` or ``gunicorn``."""

import sys

from uvicorn.config import STARTUP_FAILURE

from .app import create_app
from .logs import protect_log, set_up_server_log
from .settings import load_settings

protect_log()
try:
    settings = load_settings()
except SystemExit as error:
    # NOTE: after any other status uvicorn and Gunicorn start a worker process again, without end.
    print(error, file=sys.stderr)
    sys.exit(STARTUP_FAILURE)
set_up_server_log(settings)
app = create_app(settings)
