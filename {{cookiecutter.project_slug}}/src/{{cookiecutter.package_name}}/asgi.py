"""The application for an ASGI server with its own command, such as ``uvicorn`` or ``gunicorn``."""

from .app import create_app
from .logs import protect_log
from .settings import load_settings

protect_log()
app = create_app(load_settings())
