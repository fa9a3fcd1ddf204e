"""Parses paths in options and config keys, in which a colon or a comma may belong to a path or separate paths.

A path that exists as written takes precedence. A text that can be read in two ways is refused. Double quotes around a
path, as in `"a:2"` or `"a,b":0.5`, mark its end. A double quote in a quoted path is written twice.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence

from jepa_speech.errors import UsageError

QUOTE = "put double quotes around the path itself, inside those of the shell, as in '\"a:2\"' or '\"a,b\":0.5'"
COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')  # an unquoted comma: an even number of quotes follows
QUOTED = re.compile(r'"((?:[^"]|"")+)"(?::(.*))?', re.DOTALL)
PLAIN = re.compile(r'[^\s":,](?:[^":,]*[^\s":,])?')  # a path that needs no quotes
WeightedPaths = list[tuple[str, float]]


def weighted_paths(text: str, where: str) -> WeightedPaths:
    """Returns what the config key `where` names: one path, or `PATH:WEIGHT,PATH:WEIGHT,...`.

    Raises UsageError if a weight is not a positive number, if a path of a mixture has no weight, or if the text can be
    read in two ways whose paths all exist.
    """
    whole = [[(text, 1.0)]] if there(text) else []
    readings = [*whole, *_existing(COMMA.split(text))]
    sound = [reading for reading in readings if all(weight > 0 for _, weight in reading)]
    if len(sound) > 1 or (sound and not whole and len(readings) > 1):
        ways = " or ".join(" and ".join(f"{path}, weight {weight:g}" for path, weight in way) for way in readings[:2])
        raise UsageError(f"config key {where} = {text!r} can be read in two ways: {ways}; {QUOTE}")
    return sound[0] if sound else mixture(text, where)


def mixture(text: str, where: str) -> WeightedPaths:
    """Returns the names and weights of `text` without checking files. Raises UsageError like `weighted_paths`."""
    parts = COMMA.split(text)
    if len(parts) == 1:
        quoted = QUOTED.fullmatch(text.strip())
        if quoted and quoted[2] is None:
            return [(_unquoted(quoted), 1.0)]
        if not quoted and not re.search(r":[-+.\d]+(e[-+]?\d+)?$", text):
            return [(text, 1.0)]
    found = []
    for part in parts:
        path, number = _weighted(part)
        if not path or not 0 < number < math.inf:
            raise UsageError(
                f"config key {where}: {part!r} in a mixture; write PATH:WEIGHT with a weight above 0. If a comma or a "
                f"colon belongs to the path: no {text!r} exists; {QUOTE}"
            )
        found.append((path, number))
    return found


def as_text(paths: WeightedPaths) -> str:
    """Returns the text that `mixture` parses to `paths`, with quotes if they are needed."""
    written = [path if PLAIN.fullmatch(path) else '"{}"'.format(path.replace('"', '""')) for path, _ in paths]
    if len(paths) == 1 and paths[0][1] == 1:
        return written[0]
    return ",".join(f"{path}:{weight!r}" for path, (_, weight) in zip(written, paths, strict=True))


def path_and_rest(text: str, is_one: Callable[[str, str], bool], where: str) -> tuple[str, str]:
    """Splits `text`, PATH or PATH:REST, into (path, rest) such that `is_one(path, rest)` is true.

    If it is true for no split, the text is split at its first colon. rest is "" if there is none. where: names the
    option in the message. Raises UsageError if it is true for two splits.
    """
    if quoted := QUOTED.fullmatch(text):
        return _unquoted(quoted), quoted[2] or ""
    ways = [(text, "")] + [(text[: found.start()], text[found.end() :]) for found in re.finditer(":", text)]
    found = [way for way in ways if is_one(*way)]
    if len(found) > 1:
        both = " or ".join(f"{path} followed by {rest!r}" if rest else path for path, rest in found[:2])
        raise UsageError(f"{where} {text} can be read in two ways: {both}; {QUOTE}")
    path, _, rest = text.partition(":")
    return found[0] if found else (path, rest)


def there(path: str) -> bool:
    """Whether a path exists; false for a list of paths that is too long for a name."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises OSError for a name that is too long)


def _existing(parts: Sequence[str]) -> Iterator[WeightedPaths]:
    """Yields each reading of the parts, some of them joined again, in which all paths exist.

    In a list of several, a path without a weight has the weight NaN.
    """
    for count in range(1, len(parts) + 1):
        joined = ",".join(parts[:count]).strip()
        ways = [way for way in [_weighted(joined)] if 0 < way[1] < math.inf and there(way[0])]
        if len(parts) > count and there(joined):
            ways.append((joined, math.nan))
        for way in ways:
            rests = _existing(parts[count:]) if count < len(parts) else [[]]
            yield from ([way, *rest] for rest in rests)


def _unquoted(quoted: re.Match[str]) -> str:
    """Returns the path within the quotes of a match of QUOTED."""
    return quoted[1].replace('""', '"')


def _weighted(part: str) -> tuple[str, float]:
    """Returns path and weight of PATH:WEIGHT; the weight is NaN if it is not a number."""
    if quoted := QUOTED.fullmatch(part.strip()):
        path, weight = _unquoted(quoted), quoted[2] or ""
    else:
        path, _, weight = part.strip().rpartition(":")
    try:
        return path, float(weight)
    except ValueError:
        return path, math.nan
