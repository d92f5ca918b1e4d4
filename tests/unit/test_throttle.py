"""One line per key and period, however many there are of either."""

from __future__ import annotations

from propagator.core.throttle import Throttle


def test_throttle_lets_one_through_per_key_and_period() -> None:
    throttle = Throttle()
    said = [throttle.once_per("a", 60, at) for at in (0.0, 1.0, 59.9, 60.0, 119.0, 120.0)]
    assert said == [True, False, False, True, False, True]
    assert throttle.once_per(("other", "key"), 60, 60.5)


def test_f58_throttle_bounds_lines_and_memory_under_a_flood_of_new_names() -> None:
    throttle = Throttle(size=10)
    assert throttle.once_per("slow", 1000, 0.0)
    said = sum(throttle.once_per(f"rogue-{number}", 60, number / 1000) for number in range(5000))
    assert said == 9
    assert len(throttle._until) == 10
    assert throttle.once_per("fresh", 60, 70.0)
    assert not throttle.once_per("slow", 1000, 70.0)
    assert len(throttle._until) == 2


def test_what_was_held_back_is_counted_with_the_next_line() -> None:
    throttle = Throttle()
    assert [throttle.counted("a", 60, at) for at in (0.0, 1.0, 2.0, 60.0, 61.0, 200.0)] == [1, 0, 0, 3, 0, 2]
    assert throttle.counted("b", 60, 200.0) == 1
