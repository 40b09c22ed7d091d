"""The cores of a run: servers and load clients do not share one, where there are two."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import NamedTuple


class Cores(NamedTuple):
    """The cores on which processes run; empty for all.

    Attributes:
        server: Of a server with one process.
        cluster: Of the processes of a server over Valkey, with Valkey.
        client: Of the load clients.
    """

    server: Collection[int] = ()
    cluster: Collection[int] = ()
    client: Collection[int] = ()

    def describe(self) -> str:
        """Return the cores as a line of text."""
        if not self.client:
            return "not pinned: there is one core"
        each = (f"{name} on {', '.join(map(str, cores))}" for name, cores in self._asdict().items())
        return "pinned to cores: " + "; ".join(each)


def available_cores() -> Cores:
    """Return a division of the cores that this process may use."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return Cores()
    *middle, last = others
    return Cores(server=(first,), cluster=(first, *middle), client=(last,))
