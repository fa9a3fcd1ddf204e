"""jepa-speech transcribe: recordings → texts, by a run that was fine-tuned with CTC; scored, where texts are known."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech.cli import language_model
from jepa_speech.cli.recordings import existing, wave_of
from jepa_speech.errors import UsageError, UserError
from jepa_speech.export.pretrained import load_pretrained
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import write_jsonl
from jepa_speech.probe import bootstrap
from jepa_speech.probe.asr import text_of
from jepa_speech.probe.dataset import check_files, read_manifest
from jepa_speech.text.beam import WordBeam
from jepa_speech.text.errors import character_errors, word_errors

HELP = (
    "what is said in recordings, by a run fine-tuned with CTC; with --manifest also its word and character error rate"
)
EXAMPLE = "jepa-speech transcribe runs/asr a.flac b.wav --out texts.jsonl"
COUNTS = {"wer": word_errors, "cer": character_errors}

NO_RATE = "n/a: every reference is empty, so there is nothing that errors could be a share of"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="RUN", help="run folder of a training with configs/finetune_ctc.py")
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="files: wav, flac, ogg, opus or mp3, of any rate")
    parser.add_argument("--manifest", metavar="FILE.jsonl", help="instead of files: rows with audio_path and text")
    parser.add_argument("--out", metavar="FILE.jsonl", help="a row for each recording, with its hypothesis")
    language_model.add_arguments(parser)


def run(options: argparse.Namespace) -> dict[str, Any]:
    if bool(options.audio) == bool(options.manifest):
        raise UsageError("name audio files, or a manifest with --manifest FILE.jsonl, and not both")
    beam = language_model.beam_of(options)
    if options.manifest:
        listed = read_manifest(Path(options.manifest), text_of)
        rows = [{"audio_path": one.key, "text": one.target} for one in listed]
        check_files(listed)
        files = [one.entry for one in listed]
    else:
        files = existing(options.audio)
        rows = [{"audio_path": name} for name in files]
    model = load_pretrained(options.checkpoint, best=True)
    model.check_writes()
    search = WordBeam(beam, model.objective.vocabulary) if beam else None
    which = f"the best in {model.best}" if model.best else "the newest"
    print(f"{options.checkpoint}: step {model.step}, {which}", file=sys.stderr)  # texts alone go to stdout
    for row, name in zip(rows, tqdm(files, desc="transcribe", unit="file", file=sys.stderr, disable=None), strict=True):
        wave = wave_of(name)
        try:
            row["hypothesis"] = model.transcribe(wave, SAMPLE_RATE, search)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if "text" in row:
            row |= {figure: count(row["text"], row["hypothesis"]) for figure, count in COUNTS.items()}
        else:
            print(f"{name}\t{row['hypothesis']}", flush=True)
    if options.out:
        write_jsonl(options.out, rows)
    taken = {"checkpoint": options.checkpoint, "step": model.step, "best": model.best}
    taken |= {"beam": asdict(beam)} if beam else {}
    return taken | {"recordings": len(rows)} | scores(rows)


def scores(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The error rates of the rows that have a reference, with their intervals; prints them, too."""
    found = {}
    for figure in COUNTS if rows and "text" in rows[0] else ():
        rate = bootstrap.ratio(np.array([row[figure] for row in rows]))
        found[figure] = rate.as_json()
        of = f"{rate} % over {len(rows)} recordings [95% interval over recordings]"
        print(f"{figure.upper()} {of if found[figure]['value'] is not None else NO_RATE}")
    return found
