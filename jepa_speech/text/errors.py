"""Word and character errors of one utterance, as counts: rates of a corpus are ratios of their sums."""

import jiwer


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(substitutions + deletions + insertions, words of the reference); WER is the ratio of their sums."""
    return _counts(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """As `word_errors`, of characters, the space between words among them; CER is the ratio of their sums."""
    return _counts(jiwer.process_characters(reference, hypothesis))


def _counts(found: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int]:
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits
