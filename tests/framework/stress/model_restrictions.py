"""The model test's bans: each live node knows the outcome of the last one that was acknowledged (P5 and P6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from falcon_pachinko import BackendUnavailable
from falcon_pachinko.backends.restriction_entry import BAN, RestrictionChange

from .model import Record
from .model_node import ModelNode, now

BAN_MS = 3_600_000


@dataclass(slots=True)
class BanCall:
    """A call that bans a user, or ends the ban.

    Attributes:
        called: The time of the call.
        ended: The time from which Redis does not execute it any more.
        is_acknowledged: Whether it returned.
        killed: The number of killed nodes at its return: a later one may have been the only one that knew of it.
    """

    user: str
    is_banned: bool
    called: float
    ended: float = math.inf
    is_acknowledged: bool = False
    killed: int = 0


class ModelRestrictions:
    """The bans of a run.

    Args:
        record: The record of the run.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.calls: list[BanCall] = []

    async def restrict(self, node: ModelNode, user: str, *, is_banned: bool) -> None:
        """Ban a user through a node, or end the ban; the call may raise BackendUnavailable."""
        call = BanCall(user, is_banned, now())
        self.calls.append(call)
        until = node.backend.restrictions.now + BAN_MS if is_banned else 0
        try:
            await node.backend.restrict(RestrictionChange(BAN, user, "", until))
        except BackendUnavailable:
            call.ended = now() + self.record.timing.answer_seconds
        else:
            call.ended, call.is_acknowledged = now(), True
            call.killed = len(self.record.killed)

    def possible_outcomes(self, user: str) -> set[bool]:
        """Return whether a user may be banned, and may be not, now that no call is in progress."""
        calls = [call for call in self.calls if call.user == user]
        killed = len(self.record.killed)
        certain = [call for call in calls if call.is_acknowledged and call.killed == killed]
        outcomes = {
            call.is_banned
            for call in calls
            if not any(later.called > call.ended for later in certain)
        }
        return outcomes if certain else outcomes | {False}

    def violations(self, nodes: list[ModelNode]) -> list[str]:
        """Return the present faults of the live nodes."""
        found = []
        entries = [node.backend.restrictions.entries for node in nodes]
        if any(each != entries[0] for each in entries):
            found.append(f"P5: the nodes know different restrictions: {entries}")
        for user in {call.user for call in self.calls}:
            possible = self.possible_outcomes(user)
            for node in nodes:
                is_banned = node.backend.restrictions.banned_until(user) > 0
                if is_banned not in possible:
                    found.append(f"P6: node {node.number}: {user} is banned: {is_banned}")
        return found
