"""jepa-speech embed: recordings → one layer of a trained encoder, as arrays in one file."""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jepa_speech import partial
from jepa_speech.cli import root_option as root
from jepa_speech.cli.step_option import add_step
from jepa_speech.errors import UsageError, UserError
from jepa_speech.exporters.feature_files import FORMATS, note_of
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import printable, replacing
from jepa_speech.ingest.manifest import Entry
from jepa_speech.ingest.named_recordings import named
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.probe.dataset import wave_of
from jepa_speech.wording import counted

HELP = "features of recordings, by a trained encoder, as .npz or .parquet: for each file an array (frames, width)"
EXAMPLE = "jepa-speech embed a.flac b.wav --checkpoint runs/mine --layer 3 --out features.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="recordings of any rate, and folders of them")
    root.add_argument(parser)
    parser.add_argument("--checkpoint", required=True, metavar="RUN", help="a run folder, or one of transformers")
    add_step(parser)
    parser.add_argument("--layer", type=int, metavar="N", help="0 is the input of the first block (default: the last)")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="FILE.npz or FILE.parquet: the arrays, float32, by the files' names",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    out = Path(options.out)
    if (form := FORMATS.get(out.suffix)) is None:
        raise UsageError(f"--out {out}: the file's name must end in {' or '.join(FORMATS)}")
    listed, before = named(options.audio, options.root), note_of(out, form)
    model = load_pretrained(options.checkpoint, options.step)
    job = fingerprint.of_values(fingerprint.of_model(model), options.layer)
    command = fingerprint.of_values(job, [(entry.source, entry.stamp) for entry in listed])
    if before and before.get("command") == command:
        print(f"{out}: already complete, by this same command; remove the file to write it again")
        return before["results"]
    with partial.kept(out.with_name(f"{out.stem}.embed.partial"), job) as pieces:
        rows = []
        for entry in tqdm(listed, desc="embed", unit="file", disable=None):
            if (row := pieces.row(entry.source, entry.stamp)) is None:
                layers = embedded(model, entry)
                features = chosen(layers, options.layer)
                row = {"frames": len(features), "width": features.shape[1], "layers": len(layers)}
                pieces.add(entry.source, entry.stamp, row, as_npy(features))
            rows.append(row)
        layers = rows[0]["layers"]
        results = {
            "out": options.out,
            "files": len(rows),
            "frames": sum(row["frames"] for row in rows),
            "width": rows[0]["width"],
            "layer": layers - 1 if options.layer is None else options.layer,
            "layers": layers,
            "frame_rate": model.objective.frame_rate,
            "step": model.step,
        }
        with replacing(out) as file, form.write(file, {"command": command, "results": results}) as add:
            for entry in listed:
                add(entry.source, np.load(io.BytesIO(pieces.data(entry.source)), allow_pickle=False))
    print(
        "{out}: {held}, {frames} frames of width {width}, layer {layer} of 0 to {last}, {frame_rate:g} frames a "
        "second".format(held=counted(len(rows), "file"), last=layers - 1, **results)
    )
    return results


def embedded(model: Pretrained, entry: Entry) -> list[np.ndarray]:
    """Returns the layers of a recording, (T, D) each. Raises UserError, naming the recording, if it cannot be used."""
    wave = wave_of(entry)
    try:
        return model.represent(wave, SAMPLE_RATE).layers
    except UserError as error:
        raise UserError(f"{printable(entry.source)}: {error}") from error


def as_npy(features: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, features, allow_pickle=False)
    return file.getvalue()


def chosen(layers: list[np.ndarray], layer: int | None) -> np.ndarray:
    """Raises UsageError for a layer that is not there."""
    if layer is not None and not 0 <= layer < len(layers):
        raise UsageError(f"--layer {layer}: this encoder has the layers 0 to {len(layers) - 1}")
    return layers[-1 if layer is None else layer]
