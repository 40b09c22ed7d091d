"""Single HTTP requests to a port of this machine."""

import http.client
import json
from typing import NamedTuple

from .processes import WAIT_SECONDS


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def request(port: int, method: str, path: str, body: object = None) -> Response:
    """Send one request, its body as JSON, and return the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(
            method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return Response(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
