"""`jepa_speech.embed`: recordings → one layer of a trained encoder, as arrays."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jepa_speech import partial
from jepa_speech.cloud.arguments import takes_buckets, with_urls
from jepa_speech.cloud.folders import written_file
from jepa_speech.errors import UsageError, UserError
from jepa_speech.exporters.feature_files import FORMATS, Format, note_of
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import printable, replacing
from jepa_speech.ingest.in_bucket import fetched_ahead
from jepa_speech.ingest.manifest import Entry
from jepa_speech.ingest.named_recordings import named
from jepa_speech.pretrained import fingerprint
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.pretrained.load import Pretrained, load_pretrained
from jepa_speech.probing.dataset import wave_of
from jepa_speech.training.checkpoint_steps import Step


@takes_buckets("audio", "root", checkpoint=copied_model, out=written_file)
def embed(
    checkpoint: str | Path,
    audio: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    layer: int | None = None,
    step: Step | None = None,
    root: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Compute one layer of an encoder, as an array (T, D) float32 for each recording.

    Args:
        checkpoint: a run folder, or one of transformers.
        audio: recordings of any rate, and folders of them, also in buckets.
        out: FILE.npz or FILE.parquet, which gets the arrays by the recordings' names. The same call resumes after a
            kill, and computes nothing if the file is complete. Default: the arrays are returned.
        layer: 0 is the input of the first block; default: the last one.
        step: which checkpoint of the run: its step, "latest" or "best"; default: the latest.
        root: allow recordings anywhere below this folder; default: only in the folder that is named.
        progress: show a bar on stderr.

    Returns a dict: `files` and `frames` (numbers), `width` (D), `layer`, `layers` (how many the encoder has),
    `frame_rate` (frames per second), `step`. With `out` also `out` and `already_complete` (whether the file was
    there); otherwise `features`: name -> array.

    Raises UsageError if `layer` or the name of `out` is wrong. Raises UserError for the first recording that cannot be
    used, a checkpoint that cannot, or a file `out` that another program wrote.
    """
    form = form_of(Path(out)) if out else None
    listed = named(audio, root)
    before = note_of(Path(out), form) if out and form else None
    model = load_pretrained(checkpoint, step)
    if out and form:
        return written(Path(out), form, before, model, listed, layer, progress)
    with fetched_ahead(listed):
        found = {entry.source: layer_of(model, entry, layer) for entry in under_bar(listed, progress)}
    about = summary([one.about() for one in found.values()], model, layer)
    return about | {"features": {name: one.features for name, one in found.items()}}


def form_of(out: Path) -> Format:
    if (form := FORMATS.get(out.suffix)) is None:
        raise UsageError(f"out {out}: the file's name must end in {' or '.join(FORMATS)}")
    return form


def written(
    out: Path,
    form: Format,
    before: dict[str, Any] | None,
    model: Pretrained,
    listed: Sequence[Entry],
    layer: int | None,
    progress: bool,
) -> dict[str, Any]:
    """Writes the arrays of all recordings, unless the file's note says that it has them; returns the results."""
    job = fingerprint.of_values(fingerprint.of_model(model), layer)
    command = fingerprint.of_values(job, [(entry.source, entry.stamp) for entry in listed])
    if before and before.get("command") == command:
        return before["results"] | {"already_complete": True}
    with partial.kept(out.with_name(f"{out.stem}.embed.partial"), job) as pieces:
        rows = []
        to_do = (entry for entry in listed if pieces.row(entry.source, entry.stamp) is None)
        with fetched_ahead(to_do):
            for entry in under_bar(listed, progress):
                if (row := pieces.row(entry.source, entry.stamp)) is None:
                    one = layer_of(model, entry, layer)
                    row = one.about()
                    pieces.add(entry.source, entry.stamp, row, as_npy(one.features))
                rows.append(row)
        results = {"out": with_urls(str(out))} | summary(rows, model, layer)
        with replacing(out) as file, form.write(file, {"command": command, "results": results}) as add:
            for entry in listed:
                add(entry.source, np.load(io.BytesIO(pieces.data(entry.source)), allow_pickle=False))
    return results | {"already_complete": False}


def under_bar(listed: Sequence[Entry], shown: bool) -> Iterable[Entry]:
    return tqdm(listed, desc="embed", unit="file", disable=not shown)


class Layer(NamedTuple):
    """One layer of a recording, (T, D), and how many there are."""

    features: np.ndarray
    layers: int

    def about(self) -> dict[str, int]:
        return {"frames": len(self.features), "width": self.features.shape[1], "layers": self.layers}


def layer_of(model: Pretrained, entry: Entry, layer: int | None) -> Layer:
    """Raises UsageError for a layer that is not there. Raises UserError, naming the recording, if it cannot be used."""
    wave = wave_of(entry)
    try:
        layers = model.represent(wave, SAMPLE_RATE).layers
    except UserError as error:
        raise UserError(f"{printable(entry.source)}: {error}") from error
    if layer is not None and not 0 <= layer < len(layers):
        raise UsageError(f"layer {layer}: this encoder has the layers 0 to {len(layers) - 1}")
    return Layer(layers[-1 if layer is None else layer], len(layers))


def summary(rows: Sequence[dict[str, int]], model: Pretrained, layer: int | None) -> dict[str, Any]:
    layers = rows[0]["layers"]
    return {
        "files": len(rows),
        "frames": sum(row["frames"] for row in rows),
        "width": rows[0]["width"],
        "layer": layers - 1 if layer is None else layer,
        "layers": layers,
        "frame_rate": model.objective.frame_rate,
        "step": model.step,
    }


def as_npy(features: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, features, allow_pickle=False)
    return file.getvalue()
