"""Word and character errors of one utterance, as counts. The rate of a corpus is the ratio of their sums."""

import jiwer


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Returns (substitutions + deletions + insertions, words of the reference). WER is the ratio of their sums."""
    return _counts(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Like `word_errors`, for characters, including the spaces between words. CER is the ratio of their sums."""
    return _counts(jiwer.process_characters(reference, hypothesis))


def _counts(found: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[int, int]:
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits
