"""jepa-speech transcribe: recordings → texts, by a run that was fine-tuned with CTC; scored, where texts are known."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import partial
from jepa_speech.cli import language_model
from jepa_speech.cli import root_option as root
from jepa_speech.cli.step_option import add_step
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import printable, read_jsonl, write_jsonl
from jepa_speech.ingest.audio_source import stamp_of
from jepa_speech.ingest.manifest import Entry
from jepa_speech.ingest.named_recordings import named
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.probe import bootstrap
from jepa_speech.probe.asr import text_if_any
from jepa_speech.probe.dataset import check_files, read_manifest, wave_of
from jepa_speech.text.beam import WordBeam
from jepa_speech.text.errors import character_errors, word_errors
from jepa_speech.text.vocabulary import normal
from jepa_speech.wording import counted

HELP = (
    "what is said in recordings, by a run fine-tuned with CTC or a CTC model of transformers; with --manifest also the "
    "word and character error rate of the rows that have a text"
)
EXAMPLE = "jepa-speech transcribe runs/asr a.flac b.wav --out texts.jsonl"
COUNTS = {"wer": word_errors, "cer": character_errors}

MARK = "written by jepa-speech: texts"
NO_TEXTS = "no row has a text (docs/manifests.md names its fields): all are transcribed, and there is no error rate"
NO_RATE = "n/a: every reference is empty, so there is no error rate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="RUN",
        help="run folder of a training with configs/finetune_ctc.py, or a folder of transformers with a CTC layer",
    )
    add_step(parser, default="the one that train.best kept, or else the newest")
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="recordings, and folders of them")
    parser.add_argument("--manifest", metavar="INPUT", help="instead of files: an input of `prepare`; texts are scored")
    root.add_argument(parser)
    parser.add_argument("--out", metavar="FILE.jsonl", help="a row for each recording; goes on after a kill")
    language_model.add_arguments(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    if bool(options.audio) == bool(options.manifest):
        raise UsageError("name audio files, or a manifest with --manifest INPUT, and not both")
    beam = language_model.chosen(options)
    listed, names, rows = recordings(options)
    before = written(Path(options.out)) if options.out else []
    model = load_pretrained(options.checkpoint, options.step, best=True)
    vocabulary = model.writer.vocabulary
    search = WordBeam(beam, vocabulary) if beam else None
    newest = ", the newest" if options.step in (None, "latest") else ""
    which = f", the best in {model.best}" if model.best else newest
    print(f"{options.checkpoint}: step {model.step}{which}", file=sys.stderr)  # texts alone go to stdout

    lm = [asdict(beam), stamp_of(Path(beam.lm).stat())] if beam else None
    job = fingerprint.of_values(fingerprint.of_model(model), lm)
    made = f"{MARK} {fingerprint.of_values(job, rows, [entry.stamp for entry in listed])}"
    if before and before[0]["made"] == made:
        print(
            f"{options.out}: already complete, by this same command; remove the file to write it again", file=sys.stderr
        )
        for row in before:
            show(row)
        rows = before
    elif options.out:
        out = Path(options.out)
        with partial.kept(out.with_name(f"{out.stem}.transcribe.partial"), job) as pieces:
            for name, (row, entry) in zip(names, progress(rows, listed), strict=True):
                if (found := pieces.row(name, entry.stamp)) is None:
                    found = {"hypothesis": transcribed(model, entry, search)}
                    pieces.add(name, entry.stamp, found)
                complete(row, found["hypothesis"])
            write_jsonl(out, (row | {"made": made} for row in rows))
    else:
        for row, entry in progress(rows, listed):
            complete(row, transcribed(model, entry, search))
    taken = {"checkpoint": options.checkpoint, "step": model.step, "best": model.best}
    taken |= {"beam": asdict(beam)} if beam else {}
    return taken | {"recordings": len(rows)} | scores([row for row in rows if "text" in row])


def recordings(options: argparse.Namespace) -> tuple[list[Entry], list[str], list[dict[str, Any]]]:
    """Returns the recordings, their names, and the first fields of their rows: path, segment, a known text."""
    if options.manifest:
        utterances = read_manifest(Path(options.manifest), text_if_any, options.root)
        check_files(utterances)
        listed, names = [one.entry for one in utterances], [one.key for one in utterances]
        known = [{} if one.target is None else {"text": one.target} for one in utterances]
        if untold := known.count({}):
            few = f"{untold} of {counted(len(known), 'recording')} have no text: they are transcribed, not scored"
            print(f"{options.manifest}: {few if untold < len(known) else NO_TEXTS}", file=sys.stderr)
    else:
        listed = named(options.audio, options.root)
        names, known = [entry.source for entry in listed], [{} for _ in listed]
    return listed, names, [place_of(entry) | row for entry, row in zip(listed, known, strict=True)]


def place_of(entry: Entry) -> dict[str, Any]:
    """Returns a recording's path, segment and channel, as fields of its row."""
    segment = {"offset": entry.start, "duration": entry.seconds} if entry.is_segment else {}
    channel = {"channel": entry.channel} if entry.channel is not None else {}
    return {"audio_path": entry.source} | segment | channel


def written(out: Path) -> list[dict[str, Any]]:
    """Returns the rows of an existing file, [] if there is none. Raises UserError if `transcribe` did not write it."""
    if not out.exists() or (out.is_file() and not out.stat().st_size):
        return []
    try:
        rows = list(read_jsonl(out))
    except UserError:
        rows = [{}]
    if not all(str(row.get("made")).startswith(MARK) for row in rows):
        whose = "another program or an earlier version wrote it"
        raise UserError(f"{out} has no mark of `jepa-speech transcribe`: {whose}; move it, or name another --out")
    return rows


def progress(rows: list[dict[str, Any]], listed: list[Entry]) -> Iterator[tuple[dict[str, Any], Entry]]:
    yield from zip(rows, tqdm(listed, desc="transcribe", unit="file", file=sys.stderr, disable=None), strict=True)


def transcribed(model: Pretrained, entry: Entry, search: WordBeam | None) -> str:
    """Returns the transcript. Raises UserError, naming the recording, if it cannot be used."""
    wave = wave_of(entry)
    try:
        return model.transcribe(wave, SAMPLE_RATE, search)
    except UserError as error:
        raise UserError(f"{printable(entry.source)}: {error}") from error


def complete(row: dict[str, Any], hypothesis: str) -> None:
    """Adds the hypothesis and its errors to the row; prints the hypothesis if there is no reference text."""
    row["hypothesis"], spoken = hypothesis, normal(hypothesis)
    row |= {figure: count(row["text"], spoken) for figure, count in COUNTS.items()} if "text" in row else {}
    show(row)


def show(row: Mapping[str, Any]) -> None:
    if "text" not in row:
        print(printable(f"{row['audio_path']}\t{row['hypothesis']}"), flush=True)


def scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns how many rows are scored, which all have a text, and their error rates with intervals; prints those."""
    found: dict[str, Any] = {"scored": len(rows)}
    for figure in COUNTS if rows else ():
        rate = bootstrap.ratio(np.array([row[figure] for row in rows]))
        found[figure] = rate.as_json()
        of = f"{rate} % over {counted(len(rows), 'recording')} [95% interval over recordings]"
        print(f"{figure.upper()} {of if found[figure]['value'] is not None else NO_RATE}")
    return found
