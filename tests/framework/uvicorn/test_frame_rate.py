"""The rate of frames: that of a connection, and that of its address."""

from falcon_pachinko import Limits
from falcon_pachinko.connection.rate_limit import TokenBuckets
from falcon_pachinko.uvicorn.frame_rate import FEW_FRAMES, TIMES_PER_ADDRESS, FrameRate

LIMITS = Limits(frames_per_second=1.0, frame_burst=20)


def take(rate: FrameRate, count: int, now: float = 0.0) -> int:
    """Take tokens; return for how many frames the connection might go on."""
    return [rate.take(now) for _ in range(count)].count(True)


def test_a_connection_has_its_burst_and_then_its_rate() -> None:
    rate = FrameRate(LIMITS, "192.0.2.1", {}, now=0.0)
    assert take(rate, 30) == 20
    assert take(FrameRate(LIMITS, None, {}, now=0.0), 30) == 20


def test_connections_of_an_address_share_its_bucket() -> None:
    addresses: dict[tuple[float, float], TokenBuckets] = {}
    rates = [FrameRate(LIMITS, "192.0.2.1", addresses, now=0.0) for _ in range(60)]
    counts = [take(rate, 20) for rate in rates]
    assert counts == [20] * int(TIMES_PER_ADDRESS) + [FEW_FRAMES] * 10
    assert take(FrameRate(LIMITS, "192.0.2.2", addresses, now=0.0), 20) == 20


def test_the_share_of_a_burst_counts_what_was_used_lately() -> None:
    rate = FrameRate(LIMITS, None, {}, now=0.0)
    assert rate.used(0.0) == 0.0
    take(rate, 10)
    assert rate.used(0.0) == 0.5
    assert rate.used(5.0) == 0.25
    assert rate.used(1_000.0) == 0.0
    take(rate, 100, now=1_000.0)
    assert rate.used(1_000.0) == 1.0
