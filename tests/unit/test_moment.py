"""Times: one writing, in UTC, with milliseconds."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagator.core import moment

AWARE = st.datetimes(
    min_value=dt.datetime(1000, 1, 2),  # noqa: DTZ001  hypothesis wants it naive
    max_value=dt.datetime(9998, 12, 30),  # noqa: DTZ001
    timezones=st.timezones(),
)


@given(AWARE)
def test_read_is_the_inverse_of_write_to_the_millisecond(when: dt.datetime) -> None:
    text = moment.write(when)
    again = moment.read(text)
    assert again.tzinfo is not None
    assert dt.timedelta(0) <= when - again < dt.timedelta(milliseconds=1)
    assert moment.write(again) == text


def test_write_turns_any_zone_to_utc() -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert moment.write(dt.datetime(2026, 11, 24, 1, 2, 3, 4999, tzinfo=zone)) == "2026-11-23T19:32:03.004Z"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("2026-11-24", id="a day alone"),
        pytest.param("2026-11-24T11:20:31Z", id="no milliseconds"),
        pytest.param("2026-11-24T11:20:31.123", id="no zone"),
        pytest.param("2026-11-24T11:20:31.123+00:00", id="another writing of UTC"),
        pytest.param("2026-11-24 11:20:31.123Z", id="a space for the T"),
        pytest.param("2026-11-24t11:20:31.123z", id="small letters"),
        pytest.param("2026-02-30T11:20:31.123Z", id="a day that no month has"),
        pytest.param("2026-11-24T24:00:00.000Z", id="the hour 24"),
        pytest.param("2026-11-24T11:20:60.000Z", id="a leap second"),
        pytest.param("0000-01-01T00:00:00.000Z", id="the year nought"),
        pytest.param("2026-11-24T11:20:31.123Z\n", id="a line feed after"),
        pytest.param("\u0662026-11-24T11:20:31.123Z", id="a digit that is not ASCII"),
    ],
)
def test_f41_read_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|must be|range|format|unconverted"):
        moment.read(text)
