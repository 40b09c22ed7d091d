"""A small OpenID Connect provider on 127.0.0.1, in a thread of its own, whose faults a test chooses.

``python -m tests.provider`` serves it for a sign-in by hand, and prints the settings of the service.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import falcon
import falcon.asgi
import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeyParameters, KeySet, OKPKey, RSAKey

from .valkey import free_port

WAIT_SECONDS = 20.0
STEP_SECONDS = 0.01
# Of the provider for a sign-in by hand.
MANUAL_PORT = 9400
CLIENT_ID, CLIENT_SECRET, AUDIENCE = "chat-client", "client-secret:%/+", "https://chat.example"


class TestProvider:
    """The provider. Its attributes may be changed at any time.

    Attributes:
        issuer: Its name and address.
        user: The claims of the user who signs in.
        answer: The error in place of a code, such as ``access_denied``; empty for a sign-in.
        id_token: Claims that replace those of ID tokens.
        fault: What all requests get: ``hang``, ``error``, ``huge``, ``text``; empty for a correct response.
        hides_user: Whether the user's claims are at the user info endpoint only.
        requests: The number of requests by path.

    Args:
        port: The port; a free one by default.
    """

    __test__ = False

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.issuer = f"http://127.0.0.1:{self.port}/realm"
        self.user: dict[str, Any] = {"sub": "auth0|5f7c", "name": "Alice", "roles": ["staff"]}
        self.answer = self.fault = ""
        self.id_token: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.hides_user = False
        self.requests: Counter[str] = Counter()
        self.codes: dict[str, dict[str, str]] = {}
        self.keys: list[Key] = []
        self.rotate()
        self.start()

    def rotate(self, algorithm: str = "ES256", *, keep: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay published, or not."""
        kid = secrets.token_hex(4)
        options: KeyParameters = {"kid": kid, "alg": algorithm, "use": "sig"}
        made: Key
        if algorithm == "ES256":
            made = ECKey.generate_key("P-256", options)
        elif algorithm in ("EdDSA", "Ed25519"):
            made = OKPKey.generate_key("Ed25519", options)
        else:
            made = RSAKey.generate_key(2048, options)
        self.keys = [made, *self.keys] if keep else [made]

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """Return a token with these claims, and with the newest key."""
        key = self.keys[0]
        algorithm = str(key.get("alg"))
        header = {"alg": algorithm, "kid": key.kid} | header
        return jwt.encode(header, claims, key, algorithms=[algorithm])

    def access_token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return an access token for the service."""
        now = time.time()
        given = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300} | self.user
        return self.sign(given | claims, **{"typ": "at+jwt"} | (header or {}))

    def settings(self) -> dict[str, str]:
        """Return the settings of a service with this provider."""
        return {
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_audience": AUDIENCE,
        }

    def variables(self) -> dict[str, str]:
        """Return the settings as environment variables."""
        return {f"APP_{name.upper()}": value for name, value in self.settings().items()}

    def start(self) -> None:
        """Serve, on the same port after a stop."""
        app = falcon.asgi.App(middleware=[self])
        for path, resource in {
            "/.well-known/openid-configuration": Document(self.describe),
            "/keys": Document(lambda: KeySet(self.keys).as_dict(private=False)),
            "/authorize": Authorize(self),
            "/token": Token(self),
            "/logout": Logout(),
            "/userinfo": Document(lambda: self.user),
        }.items():
            app.add_route("/realm" + path, resource)
        # NOTE: bound here, so that a client connects although the thread has not yet begun.
        self.socket = socket.create_server(("127.0.0.1", self.port))
        config = uvicorn.Config(app, log_level="critical", lifespan="off", loop="asyncio")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(WAIT_SECONDS)
        assert not self.thread.is_alive()
        self.socket.close()

    def describe(self) -> dict[str, Any]:
        """Return the metadata."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_response_iss_parameter_supported": True,
        } | self.metadata

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Count a request, and apply the fault."""
        self.requests[req.path.removeprefix("/realm")] += 1
        if self.fault == "error":
            raise falcon.HTTPInternalServerError
        if self.fault:
            resp.complete = True
            resp.content_type = falcon.MEDIA_JSON
        if self.fault == "huge":
            resp.stream = zeros()
        elif self.fault == "hang":
            resp.stream = spaces(self)
        elif self.fault == "text":
            resp.text = "<p>Log in to the wireless network</p>"


async def zeros() -> AsyncIterator[bytes]:
    """Send a body of 4 MiB."""
    for _ in range(64):
        yield b"0" * 65_536


async def spaces(provider: TestProvider) -> AsyncIterator[bytes]:
    """Send the begin of a response, and a space from time to time while the fault lasts."""
    while provider.fault == "hang" and not provider.server.should_exit:
        yield b" "
        await asyncio.sleep(0.5)


class Document:
    """A JSON document."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = self.make()


class Authorize:
    """The page of the sign-in, at which the user agrees at once."""

    def __init__(self, provider: TestProvider) -> None:
        self.provider = provider

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        given = {name: str(value) for name, value in req.params.items()}
        assert given["response_type"] == "code"
        assert given["client_id"] == CLIENT_ID
        assert given["code_challenge_method"] == "S256"
        assert "openid" in given["scope"].split()
        response = {"state": given["state"], "iss": self.provider.issuer}
        if self.provider.answer:
            response["error"] = self.provider.answer
            response["error_description"] = "<b>Call 0800 12345</b>"
        else:
            code = secrets.token_urlsafe(8)
            self.provider.codes[code] = given
            response["code"] = code
        raise falcon.HTTPSeeOther(f"{given['redirect_uri']}?{urlencode(response)}")


class Logout:
    """The page of the sign-out, which leads back at once."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        assert req.get_param("client_id") == CLIENT_ID
        raise falcon.HTTPSeeOther(req.get_param("post_logout_redirect_uri", required=True))


class Token:
    """The token endpoint: a code works once."""

    def __init__(self, provider: TestProvider) -> None:
        self.provider = provider

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        form = await req.get_media()
        provider, attempt = self.provider, self.provider.codes.pop(form.get("code"), None)
        if not self.knows_client(req, form):
            resp.status, resp.media = falcon.HTTP_401, {"error": "invalid_client"}
            return
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            attempt is None
            or attempt["code_challenge"] != challenge
            or attempt["redirect_uri"] != form["redirect_uri"]
        ):
            resp.status, resp.media = falcon.HTTP_400, {"error": "invalid_grant"}
            return
        now = int(time.time())
        claims = {
            "iss": provider.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": attempt["nonce"],
        }
        user = {"sub": provider.user["sub"]} if provider.hides_user else provider.user
        resp.media = {
            "access_token": "opaque",
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": provider.sign(claims | user | provider.id_token),
        }

    @staticmethod
    def knows_client(req: falcon.asgi.Request, form: dict[str, str]) -> bool:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        in_form = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        return req.get_header("Authorization") == f"Basic {pair}" or in_form


@contextlib.contextmanager
def running_provider() -> Iterator[TestProvider]:
    """A provider for the length of a ``with`` block."""
    provider = TestProvider()
    try:
        yield provider
    finally:
        provider.stop()


def main() -> None:
    """Serve a provider until Ctrl+C, at an address that remains the same."""
    provider = TestProvider(MANUAL_PORT)
    try:
        print("# Add these lines to .env, and start the service again. Ctrl+C stops the provider.")
        for name, value in provider.variables().items():
            print(f"{name}={value}")
        print("APP_OIDC_ROLES_CLAIM=roles", flush=True)
        provider.thread.join()
    except KeyboardInterrupt:
        pass
    finally:
        provider.stop()


if __name__ == "__main__":
    main()
