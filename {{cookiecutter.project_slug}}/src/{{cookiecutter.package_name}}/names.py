"""The names of users by their ids, for lists of the users in a room."""

from __future__ import annotations

MAX_NAMES = 20_000


class Names:
    """Remembers the name that each user had last, for at most :data:`MAX_NAMES` users.

    The presence record of a connection has its user's name. This is for users without a connection, who are listed
    during their grace period.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def add(self, user_id: str, name: str) -> None:
        """Remember a name, and forget the one that was not used for the longest time if there are too many."""
        self.names.pop(user_id, None)
        self.names[user_id] = name
        if len(self.names) > MAX_NAMES:
            del self.names[next(iter(self.names))]

    def of(self, user_id: str) -> str:
        """Return the name of a user; the id if it is unknown."""
        return self.names.get(user_id, user_id)
