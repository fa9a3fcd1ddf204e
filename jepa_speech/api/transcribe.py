"""`jepa_speech.transcribe`: recordings → texts, by a run fine-tuned with CTC; scored, where texts are known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import partial
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.cloud.folders import written_file
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import printable, read_jsonl, write_jsonl
from jepa_speech.ingest.audio_source import stamp_of
from jepa_speech.ingest.in_bucket import fetched_ahead
from jepa_speech.ingest.manifest import Entry
from jepa_speech.ingest.named_recordings import named
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.from_bucket import copied_best_model
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.probing import bootstrap
from jepa_speech.probing.asr import text_if_any
from jepa_speech.probing.dataset import check_files, read_manifest, wave_of
from jepa_speech.progress import say_if
from jepa_speech.text.beam import Beam, WordBeam, beam_of
from jepa_speech.text.errors import character_errors, word_errors
from jepa_speech.text.vocabulary import normal
from jepa_speech.training.checkpoint_steps import Step
from jepa_speech.wording import counted

COUNTS = {"wer": word_errors, "cer": character_errors}
MARK = "written by jepa-speech: texts"
NO_TEXTS = "no row has a text (docs/manifests.md names its fields): all are transcribed, and there is no error rate"

Row = dict[str, Any]


@takes_buckets("audio", "manifest", "root", checkpoint=copied_best_model, out=written_file)
def transcribe(
    checkpoint: str | Path,
    audio: str | Path | Sequence[str | Path] = (),
    *,
    manifest: str | Path | None = None,
    step: Step | None = None,
    root: str | Path | None = None,
    out: str | Path | None = None,
    lm: str | Path | None = None,
    beam: int = Beam.size,
    lm_weight: float = Beam.lm_weight,
    word_score: float = Beam.word_score,
    each: Callable[[Row], object] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Transcribe recordings, and compute word and character error rates where the manifest has texts.

    Args:
        checkpoint: run folder of a training with configs/finetune_ctc.py, or a folder of transformers with a CTC layer.
        audio: recordings, and folders of them, also in buckets.
        manifest: instead of `audio`, an input of `prepare`, also in a bucket.
        step: which checkpoint of the run: its step, "latest" or "best"; default: the one that train.best kept, or else
            the latest.
        root: allow recordings anywhere below this folder; default: only in their input's own folder.
        out: FILE.jsonl, which gets the rows. The same call resumes after a kill, and computes nothing if the file is
            complete.
        lm: search with this n-gram language model, an ARPA file (needs flashlight-text); default: greedy decoding.
        beam: hypotheses that the search keeps; lm_weight: of log10 P; word_score: added for each word.
        each: called with every row once it is known.
        progress: show the chosen step, rows without a text and a bar on stderr.

    Returns a dict: `rows`, each with `audio_path`, `offset` and `duration` (of segments, in seconds), `channel`,
    `hypothesis`, and where `text` is known `wer` and `cer` (errors, length of the text); `checkpoint`, `step`, `best`
    (the figure by which the step was chosen, or ""), `beam` (with `lm`), `recordings` and `scored` (numbers), `wer` and
    `cer` with their 95% intervals over recordings (`value`, `low`, `high`; None if all texts are empty), and
    `already_complete` (whether `out` was there).

    Raises UsageError for both or neither of `audio` and `manifest`, and UserError for the first recording that cannot
    be used, a checkpoint that writes no texts, or a file `out` that another program wrote.
    """
    if bool(audio) == bool(manifest):
        raise UsageError("name audio files, or a manifest, and not both")
    how, say = beam_of(lm, beam, lm_weight, word_score), say_if(progress)
    listed, names, rows = recordings(audio, manifest, root)
    unscored = sum("text" not in row for row in rows)
    if manifest and unscored:
        few = f"{unscored} of {counted(len(rows), 'recording')} have no text: they are transcribed, not scored"
        say(f"{manifest}: {few if unscored < len(rows) else NO_TEXTS}")
    before = written(Path(out)) if out else []
    model = load_pretrained(checkpoint, step, best=True)
    search = WordBeam(how, model.writer.vocabulary) if how else None
    newest = ", the newest" if step in (None, "latest") else ""
    say(f"{checkpoint}: step {model.step}{f', the best in {model.best}' if model.best else newest}")

    job = fingerprint.of_values(
        fingerprint.of_model(model), [asdict(how), stamp_of(Path(how.lm).stat())] if how else None
    )
    made = f"{MARK} {fingerprint.of_values(job, rows, [entry.stamp for entry in listed])}"
    done = bool(before) and before[0]["made"] == made
    each = each or (lambda row: None)
    if done:
        rows = [{key: row[key] for key in row if key != "made"} for row in before]
        for row in rows:
            each(row)
    elif out:
        with partial.kept(Path(out).with_name(f"{Path(out).stem}.transcribe.partial"), job) as pieces:
            known = [pieces.row(name, entry.stamp) for name, entry in zip(names, listed, strict=True)]
            with fetched_ahead(entry for entry, found in zip(listed, known, strict=True) if found is None):
                for name, row, entry, found in zip(names, rows, under_bar(listed, progress), known, strict=True):
                    if found is None:
                        found = {"hypothesis": transcribed(model, entry, search)}
                        pieces.add(name, entry.stamp, found)
                    complete(row, found["hypothesis"])
                    each(row)
            write_jsonl(out, (row | {"made": made} for row in rows))
    else:
        with fetched_ahead(listed):
            for row, entry in zip(rows, under_bar(listed, progress), strict=True):
                complete(row, transcribed(model, entry, search))
                each(row)
    taken = {"checkpoint": str(checkpoint), "step": model.step, "best": model.best}
    taken |= {"beam": asdict(how)} if how else {}
    figures = scores([row for row in rows if "text" in row])
    return taken | {"recordings": len(rows)} | figures | {"already_complete": done, "rows": rows}


def recordings(
    audio: str | Path | Sequence[str | Path], manifest: str | Path | None, root: str | Path | None
) -> tuple[list[Entry], list[str], list[Row]]:
    """Returns the recordings, their names, and the first fields of their rows: path, segment, a known text."""
    if manifest:
        utterances = read_manifest([manifest], text_if_any, root)
        check_files(utterances)
        listed, names = [one.entry for one in utterances], [one.key for one in utterances]
        known = [{} if one.target is None else {"text": one.target} for one in utterances]
    else:
        listed = named(audio, root)
        names, known = [entry.source for entry in listed], [{} for _ in listed]
    return listed, names, [place_of(entry) | row for entry, row in zip(listed, known, strict=True)]


def place_of(entry: Entry) -> Row:
    """Returns a recording's path, segment and channel, as fields of its row."""
    segment = {"offset": entry.start, "duration": entry.seconds} if entry.is_segment else {}
    channel = {"channel": entry.channel} if entry.channel is not None else {}
    return {"audio_path": entry.source} | segment | channel


def written(out: Path) -> list[Row]:
    """Returns the rows of an existing file, [] if there is none. Raises UserError if `transcribe` did not write it."""
    if not out.exists() or (out.is_file() and not out.stat().st_size):
        return []
    try:
        rows = list(read_jsonl(out))
    except UserError:
        rows = [{}]
    if not all(str(row.get("made")).startswith(MARK) for row in rows):
        whose = "another program or an earlier version wrote it"
        raise UserError(f"{out} has no mark of `jepa-speech transcribe`: {whose}; move it, or choose another out")
    return rows


def under_bar(listed: Sequence[Entry], shown: bool) -> Iterable[Entry]:
    return tqdm(listed, desc="transcribe", unit="file", disable=None if shown else True)  # None: only on a terminal


def transcribed(model: Pretrained, entry: Entry, search: WordBeam | None) -> str:
    """Returns the transcript. Raises UserError, naming the recording, if it cannot be used."""
    wave = wave_of(entry)
    try:
        return model.transcribe(wave, SAMPLE_RATE, search)
    except UserError as error:
        raise UserError(f"{printable(entry.source)}: {error}") from error


def complete(row: Row, hypothesis: str) -> None:
    """Adds the hypothesis to the row, and its errors if there is a reference text."""
    row["hypothesis"], spoken = hypothesis, normal(hypothesis)
    row |= {figure: count(row["text"], spoken) for figure, count in COUNTS.items()} if "text" in row else {}


def scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns how many rows are scored, which all have a text, and their error rates with intervals."""
    rates = {name: bootstrap.ratio(np.array([row[name] for row in rows])).as_json() for name in COUNTS if rows}
    return {"scored": len(rows)} | rates
