"""The application for an ASGI server with its own command, such as ``uvicorn`` or ``gunicorn``."""

from .app import create_app
from .settings import load_settings

app = create_app(load_settings())
