"""A self-contained HTML report, with plots and style inside."""

import base64
import html
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from jepa_speech.files import printable, replacing, write_text
from jepa_speech.ownership import claim, mark
from jepa_speech.probing.progress import along

NAME = 32  # most characters of a name in a plot

STYLE = """
:root { --ink: #202124; --soft: #5f6368; --line: #e3e6ea; --accent: #2f5d9b; }
body { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: var(--ink); background: #f6f7f9;
       margin: 0; }
main { max-width: 1020px; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1, h2, p, nav a, footer { overflow-wrap: anywhere; } /* names of checkpoints may be long and without a blank */
h1 { font-size: 1.8rem; margin: .2rem 0 1.2rem; } h2 { font-size: 1.2rem; margin: 0 0 .4rem; color: var(--accent); }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.4rem;
          margin: 1.1rem 0; overflow-x: auto; }
p { margin: .3rem 0 .8rem; white-space: pre-line; } nav { color: var(--soft); margin-bottom: 1rem; }
nav a { color: var(--accent); text-decoration: none; margin-right: 1.1em; }
table { border-collapse: collapse; margin: .4rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .9rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left; }
th { color: var(--soft); font-weight: 600; font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; margin: .6rem 0; } footer { color: var(--soft); }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, a table (the first row is the header) and plots (or PNG files). All may be empty."""

    heading: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    figures: Sequence[Figure | Path] = field(default=())


def write(path: str | Path, title: str, sections: Sequence[Section], note: str = "") -> None:
    """Writes the report atomically. note: the footer (how the report was made).

    Raises UserError if the path holds a file that is not such a report.
    """
    links = " ".join(f'<a href="#s{i}">{html.escape(s.heading)}</a>' for i, s in enumerate(sections))
    body = "".join(_section(i, section) for i, section in enumerate(sections))
    write_text(
        claim(path, mark("report")),
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{mark("report")}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{html.escape(title)}</h1><nav>{links}</nav>{body}<footer>{html.escape(note)}</footer>"
        f"</main></body></html>\n",
    )


def _section(number: int, section: Section) -> str:
    parts = [f'<section id="s{number}"><h2>{html.escape(section.heading)}</h2>']
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.table:
        header, *rows = section.table
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>")
    parts += [_image(figure) for figure in section.figures]
    return "".join(parts) + "</section>\n"


def _image(figure: Figure | Path) -> str:
    if isinstance(figure, Path):
        title, data = figure.stem.replace("_", " "), figure.read_bytes()
    else:
        title = next((axes.get_title("left") for axes in figure.axes if axes.get_title("left")), "")
        title, data = title.replace(r"\$", "$"), png(figure)
    source = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{source}">'


drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()


def png(figure: Figure) -> bytes:
    """Returns a figure as PNG. A figure is drawn once, so it must not change after the first call."""
    if figure not in drawn:
        buffer = io.BytesIO()
        literal(figure)
        with warnings.catch_warnings():
            # Letters that the font lacks are shown as boxes in plots; the tables show them correctly.
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
            figure.savefig(buffer, format="png", metadata={"Software": mark("picture")})
        drawn[figure] = buffer.getvalue()
    return drawn[figure]


def readable(names: FuncFormatter, x: float, place: int | None) -> str:
    """Returns the label of a tick, shortened and escaped."""
    return escaped(cut(names(x, place)))


def literal(figure: Figure) -> None:
    """Escapes all texts of a figure, because names of classes, tasks and checkpoints may contain anything.

    matplotlib reads text between dollar signs as a formula, and cannot draw lone surrogates.
    """
    both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {id(text) for axis in both for text in axis.get_ticklabels(which="both")}
    for axis in both:
        if isinstance(names := axis.get_major_formatter(), FuncFormatter):  # what set_xticks makes of labels
            axis.set_major_formatter(FuncFormatter(partial(readable, names)))
    for text in figure.findobj(Text):
        if id(text) not in ticks:  # ticks of a logarithmic axis stay formulas
            text.set_text(escaped(text.get_text()))
    within = [text for axes in figure.axes for text in axes.texts]
    for text in within + [text for legend in figure.findobj(Legend) for text in legend.get_texts()]:
        text.set_text(cut(text.get_text()))


def cut(text: str) -> str:
    """Returns a name, shortened so that it does not squeeze the axes."""
    return text if len(text) <= NAME else f"{text[: NAME // 2 - 1]}…{text[-NAME // 2 :]}"


def escaped(text: str) -> str:
    """Escapes a text for matplotlib. Escaping twice changes nothing, because panels may share the names of an axis."""
    return re.sub(r"(?<!\\)\$", r"\\$", printable(text))


def save_figures(folder: str | Path, figures: dict[str, Figure], progress: bool = True) -> None:
    """Writes FOLDER/<name>.png for each figure. progress: show a bar."""
    for name, figure in along(figures.items(), "plots", len(figures), "plot", progress):
        save_figure(Path(folder) / f"{name}.png", figure)


def save_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG atomically. Raises UserError if the path holds a file that this package did not write."""
    with replacing(claim(path, mark("picture"))) as file:
        file.write(png(figure))
