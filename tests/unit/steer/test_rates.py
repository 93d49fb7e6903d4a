"""What a host remembers of the rates of registries."""

from __future__ import annotations

from mirror.steer.rates import LATELY_S, REGISTRIES_MAX_COUNT, Rates

MIB = 1 << 20


def test_the_middle_of_the_last_five() -> None:
    rates = Rates()
    for seconds in (1.0, 100.0, 1.0, 1.0, 2.0, 2.0, 2.0):
        rates.seen("reg", 8 * MIB, seconds, now=0.0)
    assert rates.expected_bytes_s("reg", 0.0) == 4 * MIB
    assert rates.expected_bytes_s("other", 0.0) is None


def test_what_tells_little_does_not_count() -> None:
    rates = Rates()
    rates.seen("reg", MIB, 1.0, now=0.0)
    rates.seen("reg", 8 * MIB, 0.1, now=0.0)
    rates.seen("", 8 * MIB, 1.0, now=0.0)
    assert rates.expected_bytes_s("reg", 0.0) is None
    assert rates.expected_bytes_s("", 0.0) is None


def test_what_is_old_is_forgotten() -> None:
    rates = Rates()
    rates.seen("reg", 8 * MIB, 1.0, now=0.0)
    assert rates.expected_bytes_s("reg", LATELY_S) == 8 * MIB
    assert rates.expected_bytes_s("reg", LATELY_S + 1) is None


def test_registries_are_bounded() -> None:
    rates = Rates()
    for number in range(REGISTRIES_MAX_COUNT + 1):
        rates.seen(str(number), 8 * MIB, 1.0, now=0.0)
    assert rates.expected_bytes_s("0", 0.0) is None
    assert rates.expected_bytes_s("1", 0.0) == 8 * MIB
