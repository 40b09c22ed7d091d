"""The application, for an ASGI server that is started by its own command."""

from .app import create_app
from .settings import load_settings

app = create_app(load_settings())
