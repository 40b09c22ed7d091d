"""Invitations to private rooms: signed links, which need no store.

The link of a room ends in ``#private-team~<code>``: the name of the room and a code, which has an end and is signed
for this room. A client sends both as the name of the room in the WebSocket's URL.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Sequence

from .users import PRIVATE_ROOMS

SEPARATOR = "~"
# The end in Unix seconds, and the first 128 bits of the signature.
CODE = re.compile(r"([0-9]{1,12})\.([\w-]{22})", re.ASCII)


class Invitations:
    """Makes and checks the codes of invitation links.

    Args:
        secrets: The secrets of the service, the current one first.
        audience: The service and its environment: a code is valid nowhere else.
    """

    def __init__(self, secrets: Sequence[str], audience: str) -> None:
        self.secrets = secrets
        self.audience = audience

    def invite(self, room: str, seconds: float) -> str:
        """Return the name of a private room with a code that is valid for some seconds.

        Raises:
            ValueError: The room is not a private one.
        """
        if not room.startswith(PRIVATE_ROOMS) or SEPARATOR in room:
            raise ValueError(
                f"{room!r} is not a private room: its name begins with {PRIVATE_ROOMS!r} and has no {SEPARATOR!r}"
            )
        end = str(int(time.time() + seconds))
        return f"{room}{SEPARATOR}{end}.{self._sign(self.secrets[0], room, end)}"

    def admits(self, room: str, code: str) -> bool:
        """Return whether a code is a valid invitation to a room."""
        match = CODE.fullmatch(code)
        if match is None or int(match[1]) <= time.time():
            return False
        return any(
            hmac.compare_digest(match[2], self._sign(secret, room, match[1]))
            for secret in self.secrets
        )

    def _sign(self, secret: str, room: str, end: str) -> str:
        # NOTE: the text is no JSON Web Token, so neither can stand for the other.
        text = f"invitation\n{self.audience}\n{room}\n{end}"
        digest = hmac.digest(secret.encode(), text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def split_invitation(name: str) -> tuple[str, str]:
    """Split the name of a room in a URL into the room and the code of an invitation, empty if there is none."""
    if not name.startswith(PRIVATE_ROOMS):
        return name, ""
    room, _, code = name.partition(SEPARATOR)
    return room, code
