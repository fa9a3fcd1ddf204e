"""What `prepare` and `inspect` print of a store."""

from typing import Any

from jepa_speech.files import printable
from jepa_speech.ingest.inputs.passed_over import sentences
from jepa_speech.wording import counted, duration

SHOWN = 12  # names of labels printed; --json has them all


def in_words(fields: dict[str, int]) -> str:
    """Returns how many recordings have each of the first labels, or "none"."""
    shown = [f"{printable(name)} {count}" for name, count in list(fields.items())[:SHOWN]]
    more = [f"and {len(fields) - SHOWN} more"] if len(fields) > SHOWN else []
    return ", ".join(shown + more) or "none"


def print_figures(results: dict[str, Any]) -> None:
    """Prints what a store holds and what was rejected."""
    size = f"{results['bytes'] / 1e6:.1f} MB of {results['codec']}"
    held = f"{counted(results['records'], 'recording')}, {duration(results['hours'])}"
    print(f"{results['store']}: {held}, {size}")
    if results["duplicates"]:
        print(f"{results['duplicates']} with the same samples as another: see {results['store']}/duplicates.jsonl")
    if results["rejected"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(results["reasons"].items()))
        print(f"{results['rejected']} rejected ({reasons}): see {results['store']}/rejects.jsonl")
    for line in sentences(results["passed_over"]):
        print(line)
