"""The delay of an event loop's timers is measured at an interval."""

import asyncio
import time

from falcon_pachinko.server.loop_lag import INTERVAL_SECONDS, LoopLag
from falcon_pachinko.support.counters import Histogram

from ..support.backends import wait_until


async def test_a_callback_that_blocks_the_loop_is_a_delay() -> None:
    delays = Histogram()
    lag = LoopLag(delays.observe)
    lag.start()
    lag.start()
    asyncio.get_running_loop().call_soon(time.sleep, INTERVAL_SECONDS + 0.1)
    await wait_until(lambda: sum(delays.buckets) == 1)
    assert 0.1 <= delays.seconds < 5.0
    lag.stop()
    lag.stop()
    assert lag.timer is None
