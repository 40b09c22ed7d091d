"""HTTP requests to the identity provider, each with a deadline and a bounded response."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from falcon_pachinko import ProviderUnavailable

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
MAX_RESPONSE_BYTES = 512 * 1024
# A text that is nested too deeply is a RecursionError.
NOT_JSON = (ValueError, RecursionError)


class ProviderClient(AsyncOAuth2Client):  # type: ignore[misc]
    """Authlib's OAuth 2.0 client. A request that fails raises ``ProviderUnavailable``; an outage is logged once.

    Args:
        issuer: The name of the provider in the log.
        options: Those of Authlib's client.
    """

    def __init__(self, issuer: str, **options: Any) -> None:
        # NOTE: without compression, a response has no more bytes than were counted.
        super().__init__(headers={"Accept-Encoding": "identity"}, **options)
        self.issuer = issuer
        self.is_unavailable = False

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read its response; redirects are not followed.

        Raises:
            ProviderUnavailable: There is no complete response within 5 s, it is larger than 512 KiB, or its status
                is 5xx or 429.
        """
        options["stream"] = True
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await super().send(request, **options)  # pyright: ignore[reportAttributeAccessIssue]
                try:
                    content = await read_content(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self.failure(request.url, f"no response within {REQUEST_SECONDS:.0f} s") from None
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise self.failure(request.url, f"{type(error).__name__}: {error}") from None
        if response.status_code >= 500 or response.status_code == 429:
            raise self.failure(request.url, f"HTTP {response.status_code}")
        if self.is_unavailable:
            self.is_unavailable = False
            logger.warning("the identity provider %s has recovered", self.issuer)
        return httpx2.Response(
            response.status_code, headers=response.headers, content=content, request=request
        )

    async def get_json(self, url: str, **options: Any) -> dict[str, Any]:
        """Return the JSON object at a URL, which is requested without the client's own token.

        Raises:
            ProviderUnavailable: The response is another one.
        """
        response = await self.request("GET", url, withhold_token=True, **options)
        try:
            content = response.json() if response.status_code == 200 else None
        except NOT_JSON:
            content = None
        if not isinstance(content, dict):
            raise self.failure(url, f"HTTP {response.status_code} without a JSON object")
        return content

    def failure(self, url: object, reason: str) -> ProviderUnavailable:
        """Return the error of a request that failed; the first one of an outage is logged."""
        if not self.is_unavailable:
            self.is_unavailable = True
            logger.warning(
                "the identity provider %s is unavailable: %s: %s",
                self.issuer,
                str(url).partition("?")[0],
                reason,
            )
        return ProviderUnavailable(f"{self.issuer}: {reason}")


async def read_content(response: httpx2.Response) -> bytes:
    """Return the body of a response.

    Raises:
        ValueError: It is too large, or compressed.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ValueError("the response is compressed")
    content = bytearray()
    async for part in response.aiter_raw():
        content += part
        if len(content) > MAX_RESPONSE_BYTES:
            raise ValueError(f"the response has more than {MAX_RESPONSE_BYTES} bytes")
    return bytes(content)
