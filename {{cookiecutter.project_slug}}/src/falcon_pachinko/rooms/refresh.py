"""The refresh of a session within its connection: the handler of ``clientRefreshSession``."""

from __future__ import annotations

import logging
from typing import Any

from ..close_codes import ACCESS_DENIED, SESSION_ENDED
from ..connection.connection import Connection
from ..connection.identity import EXPIRED, session_id_of, sign_in_time_of
from ..errors import Forbidden, ProviderUnavailable, Reject
from ..messages import RefreshSession, ServerSessionRefreshed
from .authorization import JOIN, require

logger = logging.getLogger(__name__)


async def refresh_session(
    resource: Any, ws: Connection, payload: RefreshSession
) -> ServerSessionRefreshed:
    """Continue the connection with a new token of its user; it stays open, but leaves a room that refuses the user."""
    authenticate = ws._config.authenticate
    assert authenticate is not None  # or the type would be unknown
    try:
        identity = await authenticate(payload.token)
    except ProviderUnavailable as error:
        logger.warning("a session was not refreshed: %s", error)
        raise
    if identity is None:
        raise Reject(SESSION_ENDED, "the token is not valid")
    if not is_same_user(identity, ws.identity):
        raise Reject(SESSION_ENDED, "the token is of another user")
    check = resource.manager._registry.enforcement.check_identity
    check(ws, session_id_of(identity), sign_in_time_of(identity))
    # NOTE: before the session is replaced, so that a failure leaves the connection as it was.
    for room in resource.manager._registry.rooms_of(ws):
        try:
            await require(resource, JOIN, room, identity)
        except Forbidden as refusal:
            raise Reject(ACCESS_DENIED, refusal.text) from refusal
    channels = ws._channels
    refused = {} if channels is None else await channels.find_refused(identity)
    if ws.closed:
        return ServerSessionRefreshed(expires_in_seconds=None)  # nobody receives it
    # NOTE: the session may have been revoked meanwhile, when the connection did not have it yet.
    check(ws, session_id_of(identity), sign_in_time_of(identity))
    ws._identify(identity, refreshed=True)
    if channels is not None:
        channels.on_refreshed(identity, refused)
    seconds = None
    if ws._expiry is not None:
        if ws._expiry.has_passed:
            raise Reject(SESSION_ENDED, EXPIRED)
        seconds = ws._expiry.seconds_left
    return ServerSessionRefreshed(expires_in_seconds=seconds)


def is_same_user(one: Any, other: Any) -> bool:
    """Return whether two identities have the same ``id``, or the same ``name`` where neither has one."""
    keys = [getattr(each, "id", None) for each in (one, other)]
    if keys == [None, None]:
        keys = [getattr(each, "name", None) for each in (one, other)]
    return keys[0] is not None and keys[0] == keys[1]
