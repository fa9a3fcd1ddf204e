"""How counts and durations are written in messages and headers."""


def counted(number: int, noun: str) -> str:
    """Returns "1 recording" or "1,200 recordings"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def duration(hours: float) -> str:
    """Returns hours as text, below one hour in minutes, below one minute in seconds."""
    if hours >= 1:
        return f"{hours:.2f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"
