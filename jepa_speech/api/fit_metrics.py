"""What a fit writes beside its anchor: a row per pass (STEM.metrics.jsonl), and their curves (STEM.png)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from jepa_speech.analysis.report import save_figure
from jepa_speech.files import write_jsonl
from jepa_speech.ownership import claim, mark
from jepa_speech.probing.plots import MODEL, SECOND, TARGET, canvas, styled

History = Sequence[Mapping[str, float]]

# Panels: title, unit, and the columns of the history that they show, with a name and a colour for each.
_GMM = (
    ("Log-likelihood", "nats per frame", {"log_likelihood": ("fitted", MODEL), "heldout": ("held out", TARGET)}),
    ("Components alive", "of K", {"alive": ("", MODEL)}),
    ("Usage entropy", "1: all alike", {"usage_entropy": ("", SECOND)}),
    ("Temperature", "divides the log joint", {"temperature": ("", TARGET)}),
)
_KMEANS = (
    ("Inertia", "squared distance", {"inertia": ("fitted", MODEL), "heldout_inertia": ("held out", TARGET)}),
    ("Components alive", "of K", {"alive": ("", MODEL)}),
    ("Usage entropy", "1: all alike", {"usage_entropy": ("", SECOND)}),
)


ROWS = b'"usage_entropy": '  # by which `claim` recognises STEM.metrics.jsonl


def claim_beside(out: str | Path) -> None:
    """Raises UserError, before a fit, if it would overwrite what another program wrote."""
    claim(_beside(out, "metrics.jsonl"), ROWS)
    claim(_beside(out, "png"), mark("picture"))


def write_history(out: str | Path, history: History) -> None:
    """Replaces STEM.metrics.jsonl atomically."""
    write_jsonl(claim(_beside(out, "metrics.jsonl"), ROWS), history)


def draw_history(out: str | Path, history: History) -> None:
    save_figure(_beside(out, "png"), curves(history))


def _beside(out: str | Path, suffix: str) -> Path:
    return Path(out).with_name(f"{Path(out).stem}.{suffix}")


@styled
def curves(history: History) -> Figure:
    """Plots each quantity over the passes. Likelihoods begin after the first step, because the start is far below."""
    panels = _KMEANS if "inertia" in history[0] else _GMM
    figure, (row,) = canvas(columns=len(panels), size=(3.4 * len(panels), 3.2))
    for axes, (title, unit, columns) in zip(row, panels, strict=True):
        for column, (name, colour) in columns.items():
            shown = history[1:] or history if "log_likelihood" in columns else history
            passes, values = zip(*((line["pass"], line[column]) for line in shown), strict=True)
            axes.plot(passes, values, "o-", color=colour, ms=4, label=name or None)
        axes.set_title(title)
        axes.set_xlabel("pass")
        axes.set_ylabel(unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.ticklabel_format(axis="y", useOffset=False)
        if "alive" in columns:
            axes.set_ylim(0, 1.1 * max(line["alive"] for line in history))
        if len(columns) > 1:
            axes.legend()
    return figure
