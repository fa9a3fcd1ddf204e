"""Language models in ARPA form, written by hand."""

from collections.abc import Mapping
from pathlib import Path


def arpa(
    path: Path,
    one: Mapping[str, float],
    two: Mapping[tuple[str, str], float] | None = None,
    back: Mapping[str, float] | None = None,
) -> str:
    """A bigram model: log10 P(word), `<s>` and `</s>` among the words, log10 P of pairs, log10 of backing off."""
    two, back = two or {("<s>", "</s>"): -2.0}, back or {}
    unigrams = [f"{p}\t{word}\t{back.get(word, 0.0)}" for word, p in {"<unk>": -99.0, **one}.items()]
    bigrams = [f"{p}\t{' '.join(pair)}" for pair, p in two.items()]
    head = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", ""]
    path.write_text("\n".join([*head, "\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]))
    return str(path)


def uniform(path: Path, words: list[str]) -> str:
    """Every word is as likely as any other."""
    return arpa(path, {"<s>": -99.0, "</s>": -1.0} | dict.fromkeys(words, -1.0))
