from __future__ import annotations

import gc

from eclipse_pl.data.slots import Slots


def test_a_slot_is_free_again_when_the_last_view_is_gone() -> None:
    slots = Slots(2, 10)
    first, second = slots.take(), slots.take()
    assert {first, second} == {0, 1} and slots.take() is None
    slots.memory(0)[:] = 7
    batch = slots.open(0)
    view = batch[2:5].reshape(3, 1)
    through_numpy = view.numpy()
    del batch
    assert slots.take() is None
    del view
    assert slots.take() is None and through_numpy.tolist() == [[7], [7], [7]]
    del through_numpy
    gc.collect()
    assert slots.take() == 0


def test_tensors_outlive_the_slots() -> None:
    slots = Slots(1, 1_000_000)
    slots.memory(0)[:] = 3
    batch = slots.open(0)
    del slots
    gc.collect()
    assert (batch == 3).all()


def test_what_never_arrived_is_forgotten() -> None:
    slots = Slots(2, 10)
    slots.take()
    slots.take()
    held = slots.open(1)
    slots.forget_in_flight()
    assert slots.take() == 0 and slots.take() is None
    del held
    assert slots.take() == 1
