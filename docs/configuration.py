"""Writes docs/configuration.md, every config key, from the comments beside the fields of the sections' dataclasses.

    python docs/configuration.py

A comment follows its field or is on the lines above it. It ends with the key's names elsewhere, if there are any, as
in `# of the blocks [fairseq: encoder_embed_dim]`.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

from jepa_speech.nn.build_encoder import ENCODERS
from jepa_speech.objectives import module_of, names
from jepa_speech.settings.run_config import KINDS, RunConfig

OF_RUNS = ("inputs", "imported")  # that `train` and `import hf` write, and no config file has
PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Configuration

Every key of a config. The line above each table names the dataclass that holds the defaults.
`--config.SECTION.KEY=VALUE` changes one key. A file of `configs/` sets many keys to the values of its paper;
`jepa-speech config base` prints one with all keys of GMM-anchored JEPA. `config.json` in a run folder has the values
that the run uses. *Elsewhere* is the key's name in fairseq, in another released code, or in the method's paper. Where
it is empty, we know of no counterpart. `python docs/configuration.py` writes this page from the comments in the code.
"""


def sections() -> Iterator[tuple[str, type]]:
    """Each section by its heading, with the dataclass that reads it."""
    own = {name: module_of(name).SECTIONS for name in names()}
    encoders: dict[type, list[str]] = {}
    for name, (kind, _) in ENCODERS.items():
        encoders.setdefault(kind, []).append(f"`{name}`")
    for section in (field.name for field in dataclasses.fields(RunConfig)):
        if section == "encoder":
            for kind, known in encoders.items():
                yield f"encoder, where `encoder.name` is {' or '.join(known)}", kind
        elif dataclasses.is_dataclass(KINDS.get(section)) and section not in OF_RUNS:
            yield section, KINDS[section]
        for name in names():
            if section in own[name]:
                yield f"{section}, where `objective.name` is `{name}`", own[name][section]


def comments(kind: type) -> dict[str, str]:
    """Field -> its comment, those of inherited fields too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        above: list[str] = []
        for line in inspect.getsource(base).splitlines():
            field = re.match(r"    (\w+): ", line)
            if line.startswith("    # "):
                above.append(line.removeprefix("    # "))
            elif field:
                behind = line.partition("  # ")[2]
                if comment := " ".join([*above, *([behind] if behind else [])]):
                    found[field[1]] = comment
            if not line.startswith("    # "):
                above = []
    return found


def type_name(kind: typing.Any) -> str:
    """A type as a reader of the page needs it: what can be written as a value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        each = type_name(arguments[0])
        return f"{each}, ..." if arguments[-1] is Ellipsis else ", ".join([each] * len(arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_name, arguments))
    return kind.__name__


def value_text(value: typing.Any) -> str:
    """A default as --config.KEY=VALUE takes it."""
    if value is dataclasses.MISSING:
        return "needed"
    if isinstance(value, tuple):
        return f"`{','.join(map(str, value))}`"
    return "empty" if value == "" else f"`{value}`"


def row(field: dataclasses.Field, kind: typing.Any, comment: str) -> str:
    meaning, bracket, names_elsewhere = comment.partition(" [")
    if bracket and not names_elsewhere.endswith("]"):
        raise ValueError(f"{field.name}: text behind the bracket, which must end the comment: {comment}")
    elsewhere = names_elsewhere.removesuffix("]")
    cells = [f"`{field.name}`", type_name(kind), value_text(field.default), meaning, elsewhere]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def source(kind: type) -> str:
    """Names a dataclass, with a link to its file."""
    file = kind.__module__.replace(".", "/") + ".py"
    return f"`{kind.__name__}` in [{file}](../{file})"


def table(kind: type, only: Iterable[str] = ()) -> Iterable[str]:
    """The lines of the table of a dataclass, or of those of its fields; `name` is the first."""
    known, kinds = comments(kind), typing.get_type_hints(kind)
    yield "| key | type | default | meaning | elsewhere |"
    yield "|---|---|---|---|---|"
    for field in sorted(dataclasses.fields(kind), key=lambda field: field.name != "name"):
        if not only or field.name in only:
            yield row(field, kinds[field.name], known[field.name])


def page() -> str:
    """Raises KeyError for a field without a comment."""
    outside = [f"## Keys outside sections\n\n{source(RunConfig)}\n", *table(RunConfig, ("seed", "init_from"))]
    parts = [HEAD, "\n".join(outside) + "\n"]
    for heading, kind in sections():
        about = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[2]
        above = [f"## {heading}\n", f"{source(kind)}\n", *([about + "\n"] if about else [])]
        parts.append("\n".join([*above, *table(kind)]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
