"""Which of three ranks is dead or late, by a clock that the test turns; real processes are in test_ranks.py."""

from __future__ import annotations

from typing import Any

import pytest
from torch.distributed import HashStore

from eclipse_pl.callbacks import life
from eclipse_pl.callbacks.life import SILENCE, SignsOfLife


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(life, "time", clock)
    return clock


@pytest.fixture
def ranks(clock: Clock) -> list[SignsOfLife]:
    store = HashStore()
    return [SignsOfLife(store, rank, 3) for rank in range(3)]


def pass_time(clock: Clock, seconds: int, alive: list[SignsOfLife], listener: SignsOfLife) -> None:
    for _ in range(seconds):
        clock.now += 1
        for rank in alive:
            rank.send()
        listener.hear()


def test_a_rank_without_a_sign_is_dead(clock: Clock, ranks: list[SignsOfLife]) -> None:
    pass_time(clock, 2, ranks, ranks[0])
    pass_time(clock, int(SILENCE), ranks[:2], ranks[0])
    assert ranks[0].dead() == []
    pass_time(clock, 1, ranks[:2], ranks[0])
    assert ranks[0].dead() == [2]
    assert ranks[0].name(2).startswith("rank 2 (process ")


def test_nobody_is_dead_before_all_have_begun_nor_after_a_goodbye(clock: Clock, ranks: list[SignsOfLife]) -> None:
    pass_time(clock, 60, ranks[:2], ranks[0])
    assert ranks[0].dead() == ranks[0].late(0.0) == []
    pass_time(clock, 2, ranks, ranks[0])
    ranks[2].say_goodbye()
    pass_time(clock, 60, ranks[:2], ranks[0])
    assert ranks[0].dead() == []


def test_nobody_is_dead_after_the_listener_has_slept(clock: Clock, ranks: list[SignsOfLife]) -> None:
    pass_time(clock, 2, ranks, ranks[0])
    clock.now += 600
    pass_time(clock, 1, ranks, ranks[0])
    assert ranks[0].dead() == []


def test_the_rank_that_others_wait_for_is_late(clock: Clock, ranks: list[SignsOfLife]) -> None:
    for rank in ranks:
        rank.move("at training batch {} of epoch {}", 6, 0)
    for rank in ranks[:2]:
        rank.move("at training batch {} of epoch {}", 7, 0)
    pass_time(clock, 60, ranks, ranks[0])
    assert ranks[0].late(61.0) == []
    assert ranks[0].late(60.0) == [2]
    assert ranks[0].where(2).startswith("at training batch 6 of epoch 0, ")
    ranks[0].move("at training batch {} of epoch {}", 8, 0)
    pass_time(clock, 59, ranks, ranks[0])
    assert ranks[0].late(60.0) == [], "rank 0 has only just begun to wait"


@pytest.mark.parametrize(("waiting", "late"), [([0, 1], [2]), ([], []), ([0, 1, 2], [])])
def test_of_ranks_at_one_place_those_in_no_collective_are_late(
    clock: Clock, ranks: list[SignsOfLife], monkeypatch: Any, waiting: list[int], late: list[int]
) -> None:
    """Where none waits or all do, none is late: all work, or all wait for the device."""
    pass_time(clock, 1, ranks, ranks[0])
    clock.now += 60
    for number, rank in enumerate(ranks):
        monkeypatch.setattr(life, "WAITS_IN", ("life.py",) if number in waiting else ("nowhere",))
        rank.send()
    ranks[0].hear()
    assert ranks[0].late(60.0) == late
