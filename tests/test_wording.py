import pytest

from jepa_speech.wording import counted, duration


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 recordings"), (1, "1 recording"), (2, "2 recordings"), (1200, "1,200 recordings")]
)
def test_counts(number, text):
    assert counted(number, "recording") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (3, "3.0 s"), (72, "1.2 min"), (3599, "60.0 min"), (5400, "1.50 h")]
)
def test_durations(seconds, text):
    """None is shown as 0.00 unless it is nothing."""
    assert duration(seconds / 3600) == text
