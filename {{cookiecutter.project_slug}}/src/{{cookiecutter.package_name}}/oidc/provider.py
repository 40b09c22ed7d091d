"""The identity provider: sign-in with an authorization code, its tokens, and sign-out."""

from __future__ import annotations

import logging
import time
from typing import Any

import falcon.asgi
import httpx2
from authlib.common.urls import add_params_to_uri
from authlib.integrations.base_client import OAuthError
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from falcon_pachinko import ProviderUnavailable
from falcon_pachinko.support.tasks import TaskSet

from ..settings import Settings
from ..tokens import LEEWAY_SECONDS, Session
from ..users import User
from .attempts import Attempt, SignInRefused
from .cached import COOLDOWN_SECONDS, Cached
from .claims import (
    ClaimNames,
    InvalidToken,
    check_is_access_token,
    check_times,
    session_id_of,
    value_at,
)
from .client import ProviderClient
from .keys import Keys, UncheckedToken, read_keys
from .metadata import Metadata

logger = logging.getLogger(__name__)

METADATA_PATH = "/.well-known/openid-configuration"
# A session that began then cannot be refreshed: its program gets another token from the provider.
NO_REFRESH = 0.0


class OpenIdProvider:
    """The identity provider, with one key cache.

    Args:
        client: Sends the requests.
        claim_names: The claims that describe a user.
        audience: The audience of access tokens for this service; empty if they are not accepted.
        public_origin: The origin of this service; empty for that of a request.
        cooldown_seconds: The least time between two requests for keys.
    """

    def __init__(
        self,
        client: ProviderClient,
        claim_names: ClaimNames,
        *,
        audience: str = "",
        public_origin: str = "",
        cooldown_seconds: float = COOLDOWN_SECONDS,
    ) -> None:
        self.client = client
        self.claim_names = claim_names
        self.audience = audience
        self.public_origin = public_origin
        self.tasks = TaskSet()
        cached_keys = Cached(self._fetch_keys, self.tasks, cooldown_seconds=cooldown_seconds)
        self.keys = Keys(cached_keys)
        self.metadata = Cached(self._fetch_metadata, self.tasks, cooldown_seconds=cooldown_seconds)

    @classmethod
    def of(cls, settings: Settings) -> OpenIdProvider:
        """Return the provider of a service with these settings."""
        client = ProviderClient(
            settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret.get_secret_value() or None,
            scope=settings.oidc_scopes,
            code_challenge_method="S256",
        )
        names = ClaimNames(
            settings.oidc_id_claim, settings.oidc_name_claim, settings.oidc_roles_claim
        )
        return cls(
            client, names, audience=settings.oidc_audience, public_origin=settings.public_origin
        )

    async def check(self) -> None:
        """Read the metadata and the keys.

        Raises:
            ProviderUnavailable: The provider does not respond, or its response is not valid.
        """
        await self._fetch_keys()

    async def aclose(self) -> None:
        """End all requests and connections."""
        await self.tasks.aclose()
        await self.client.aclose()  # pyright: ignore[reportAttributeAccessIssue]

    def base_url(self, req: falcon.asgi.Request) -> str:
        """Return the address of this service without a slash at its end, as the provider knows it."""
        return (self.public_origin or f"{req.scheme}://{req.netloc}") + req.root_path

    async def authorization_url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Return the address at which the user signs in.

        Raises:
            ProviderUnavailable: It is not known for now.
        """
        metadata = await self.metadata.get()
        url, _ = self.client.create_authorization_url(
            metadata.endpoints["authorization_endpoint"],
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
            redirect_uri=redirect_uri,
        )
        return str(url)

    async def check_sender(self, issuer: str | None) -> None:
        """Check the parameter ``iss`` of a redirect from the provider (RFC 9207), where it is given or promised.

        Raises:
            SignInRefused: It is another one, or is missing.
            ProviderUnavailable: This is not known for now.
        """
        metadata = await self.metadata.get()
        if issuer != metadata.issuer and (issuer is not None or metadata.names_itself):
            text = f"the redirect is from the issuer {issuer!r:.200}"
            raise SignInRefused(text, by_client=True)

    async def sign_in(self, code: str, attempt: Attempt, redirect_uri: str) -> User:
        """Exchange an authorization code for the user who has signed in.

        Raises:
            SignInRefused: The code or the ID token is not valid.
            ProviderUnavailable: The provider does not respond.
        """
        metadata = await self.metadata.get()
        auth = None
        if self.client.client_secret and not metadata.takes_basic:
            auth = self.client.client_auth("client_secret_post")
        try:
            tokens = await self.client.fetch_token(
                metadata.endpoints["token_endpoint"],
                auth=auth,
                grant_type="authorization_code",
                code=code,
                code_verifier=attempt.verifier,
                redirect_uri=redirect_uri,
            )
            # SECURITY: no other request may use it; there is no await since the client has set it.
            self.client.token = None
            claims = await self._check_id_token(tokens, attempt.nonce, metadata)
            return self.claim_names.user(await self._with_user_info(claims, tokens, metadata))
        except (OAuthError, InvalidToken) as error:
            # RFC 6749 section 5.2: the browser has brought a wrong or used code.
            by_client = getattr(error, "error", "") == "invalid_grant"
            text = f"{type(error).__name__}: {error}"
            raise SignInRefused(text, by_client=by_client) from None
        # NOTE: these are for a response that is not one of the protocol, such as the page of a gateway.
        except (httpx2.HTTPError, ValueError, TypeError) as error:
            raise self.client.failure(metadata.endpoints["token_endpoint"], str(error)) from None

    async def read(self, token: str) -> Session | None:
        """Return the session of an access token for this service; ``None`` for any other text.

        Raises:
            ProviderUnavailable: The token cannot be checked for now.
        """
        if not self.audience:
            return None
        try:
            unchecked = UncheckedToken.parse(token)
            # NOTE: without a request, so that tokens of others cost none.
            if str(unchecked.claims.get("iss")).rstrip("/") != self.client.issuer.rstrip("/"):
                return None
            await self.keys.verify(unchecked)
        except InvalidToken as error:
            logger.info("an access token is refused: %s", error)
            return None
        try:
            return await self._session_of(unchecked)
        except InvalidToken as error:
            level = logging.INFO if error.by_client else logging.WARNING
            logger.log(level, "an access token of the identity provider is refused: %s", error)
            return None

    async def logout_url(self, return_to: str) -> str | None:
        """Return the address that ends the user's session at the provider; ``None`` if there is none for now.

        Args:
            return_to: The address that the provider leads back to.
        """
        try:
            endpoint = (await self.metadata.get()).endpoints.get("end_session_endpoint")
        except ProviderUnavailable:
            return None
        if endpoint is None:
            return None
        # NOTE: without id_token_hint, for which a cookie would have to hold the ID token; the provider may ask.
        parameters = {
            "client_id": self.client.client_id,
            "post_logout_redirect_uri": return_to,
        }
        return str(add_params_to_uri(endpoint, list(parameters.items())))

    async def _session_of(self, token: UncheckedToken) -> Session:
        claims, metadata = token.claims, await self.metadata.get()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != metadata.issuer or self.audience not in audiences:
            raise InvalidToken(f"it is for {audience!r:.200}, not for {self.audience!r}")
        check_times(claims)
        check_is_access_token(token.header, claims)
        user = self.claim_names.user(
            claims, session_id=session_id_of(token.text, claims), expires_at=claims["exp"]
        )
        return Session(user, float(claims["iat"]), NO_REFRESH)

    async def _check_id_token(
        self, tokens: dict[str, Any], nonce: str, metadata: Metadata
    ) -> dict[str, Any]:
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise InvalidToken("the response has no ID token: APP_OIDC_SCOPES needs 'openid'")
        token = UncheckedToken.parse(text)
        await self.keys.verify(token, at_once=True)
        check_times(token.claims)
        required = {"iss": metadata.issuer, "aud": self.client.client_id}
        options = {name: {"essential": True, "value": value} for name, value in required.items()}
        parameters = {
            "nonce": nonce,
            "client_id": self.client.client_id,
            "access_token": tokens.get("access_token"),
        }
        try:
            CodeIDToken(token.claims, token.header, options, parameters).validate(
                now=int(time.time()), leeway=LEEWAY_SECONDS
            )
        except JoseError as error:
            raise InvalidToken(str(error)) from None
        return token.claims

    async def _with_user_info(
        self, claims: dict[str, Any], tokens: dict[str, Any], metadata: Metadata
    ) -> dict[str, Any]:
        """Return the claims of the ID token and, if it has no name or no roles, those of the user info endpoint."""
        endpoint = metadata.endpoints.get("userinfo_endpoint")
        access_token = tokens.get("access_token")
        wanted = (self.claim_names.name, self.claim_names.roles)
        is_complete = all(value_at(claims, name) is not None for name in wanted)
        if is_complete or endpoint is None or not isinstance(access_token, str):
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        found = await self.client.get_json(endpoint, headers=headers)
        # SECURITY: OpenID Connect Core 1.0 section 5.3.2: it may be the answer for another user.
        if found.get("sub") != claims.get("sub"):
            raise InvalidToken("the user info is of another user")
        return found | claims

    async def _fetch_metadata(self) -> Metadata:
        url = self.client.issuer.rstrip("/") + METADATA_PATH
        document = await self.client.get_json(url)
        try:
            return Metadata.read(document, self.client.issuer)
        except (ValueError, TypeError) as error:
            raise self.client.failure(url, str(error)) from None

    async def _fetch_keys(self) -> KeySet:
        url = (await self.metadata.get()).endpoints["jwks_uri"]
        document = await self.client.get_json(url)
        try:
            return read_keys(document)
        except ValueError as error:
            raise self.client.failure(url, str(error)) from None
