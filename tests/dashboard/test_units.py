import pytest
from supsup_dashboard.runs.units import spoken_bytes, spoken_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_seconds_as_one_says_them(seconds, text):
    assert spoken_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (103_200, "103.2 kB"),
        (999_900, "1.0 MB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_bytes_as_one_says_them(size, text):
    assert spoken_bytes(size) == text
