"""The end of nodes that have expired: their users leave."""

from __future__ import annotations

import logging

from ...errors import BackendUnavailable
from .pipeline import Pipeline, wait_all
from .script import NODES, chunks, hash_tag

logger = logging.getLogger(__name__)


async def evict(pipeline: Pipeline, node: str) -> None:
    """Remove an expired node and the presence of its connections."""
    try:
        names = [n.decode() for n in await pipeline.call("rooms_of", NODES, node)]
        results = await wait_all(
            [pipeline.call("evict", hash_tag(name), node, []) for name in names]
        )
        for name in names:
            pipeline.call_ignoring_outcome("release_room", hash_tag(name))
        done = [
            name for name, result in zip(names, results, strict=True) if not (result and result[0])
        ]
        for chunk in chunks(done):
            await pipeline.call("remove_rooms", NODES, node, chunk)
        if len(done) == len(names):
            await pipeline.call("remove_node", NODES, node)
    except BackendUnavailable as error:
        logger.info("node %s: eviction failed: %s; retrying", node, error)
