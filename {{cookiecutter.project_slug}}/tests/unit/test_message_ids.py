"""The ids of messages: their form and their order."""

from __future__ import annotations

from {{ cookiecutter.package_name }}.message_ids import MessageIds, lowest_id

NOW_MS = 1_764_200_000_000


def test_an_id_begins_with_its_time() -> None:
    made = MessageIds().next(NOW_MS)
    assert len(made) == 28
    assert int(made[:12], 16) == NOW_MS
    assert lowest_id(NOW_MS) < made < lowest_id(NOW_MS + 1)


def test_ids_of_a_process_ascend_within_a_millisecond_and_after_a_step_of_the_clock() -> None:
    ids = MessageIds()
    times_ms = [NOW_MS] * 1_000 + [NOW_MS - 60_000] * 1_000 + [NOW_MS + 1] * 1_000
    made = [ids.next(time_ms) for time_ms in times_ms]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_several_processes_differ() -> None:
    assert len({MessageIds().next(NOW_MS) for _ in range(1_000)}) == 1_000
