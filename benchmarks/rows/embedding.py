"""`embed` of recordings of mixed lengths by HuBERT Base, files to npz, beside a loop of transformers and soundfile."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers
from rows.extraction import TOY
from rows.made import waves
from rows.others import own
from rows.race import Row

import jepa_speech
from jepa_speech.features.grid import SAMPLE_RATE

PEERS = ("torch", "transformers", "soundfile")
BATCH_SECONDS = 64.0  # of padded audio, as `embed` has at most


def recordings(folder: Path, total: float, typical: float, longest: float) -> Path:
    """FLAC files of `total` seconds together, log-normal lengths around `typical`, at most `longest`."""
    folder.mkdir()
    lengths = np.minimum(np.exp(np.random.default_rng(0).normal(np.log(typical), 0.6, 500)), longest)
    for i, length in enumerate(lengths[: int(np.searchsorted(np.cumsum(lengths), total)) + 1]):
        soundfile.write(folder / f"{i:03d}.flac", waves(1, round(length * SAMPLE_RATE), i)[0], SAMPLE_RATE)
    return folder


def groups_of(files: list[Path], seconds: float) -> list[list[Path]]:
    """Neighbours in length, in batches of at most `seconds` of padded audio; 0: one by one."""
    groups: list[list[Path]] = []
    for file in sorted(files, key=lambda file: soundfile.info(file).frames):
        if groups and (len(groups[-1]) + 1) * soundfile.info(file).duration <= seconds:
            groups[-1].append(file)
        else:
            groups.append([file])
    return groups


def peer(model: Path, audio: Path, out: Path, seconds: float) -> None:
    theirs = transformers.HubertModel.from_pretrained(model).eval()
    extract = transformers.Wav2Vec2FeatureExtractor.from_pretrained(model)
    found = {}
    for group in groups_of(sorted(audio.iterdir()), seconds):
        read = [soundfile.read(file, dtype="float32")[0] for file in group]
        given = extract(read, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=True)
        with torch.inference_mode():
            layers = theirs(**given).last_hidden_state
        frames = theirs._get_feat_extract_output_lengths(torch.tensor([len(wave) for wave in read])).tolist()
        found |= {file.name: x[:n].numpy() for file, x, n in zip(group, layers, frames, strict=True)}
    np.savez(out, **found)


def ours(model: Path, audio: Path, out: Path) -> None:
    out.unlink(missing_ok=True)  # a complete file would not be computed again
    jepa_speech.embed(model, audio, out)


def processor_time(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    clock, spent = time.perf_counter(), own()
    run()
    return time.perf_counter() - clock, own() - spent


def rows(quick: bool, work: Path, data: Path | None) -> list[Row]:
    total, typical, turns = (2.0, 0.5, 1) if quick else (300.0, 7.0, 2)
    model, audio = work / "model", recordings(work / "audio", total, typical, 30.0)
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig(**(TOY if quick else {}))).save_pretrained(model)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(model)
    runs = {
        "ours": partial(ours, model, audio, work / "ours.npz"),
        "one by one": partial(peer, model, audio, work / "single.npz", 0.0),
        "batches of similar length": partial(peer, model, audio, work / "batched.npz", BATCH_SECONDS),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            times[name].append(processor_time(run))
    mine, single = np.load(work / "ours.npz"), np.load(work / "single.npz")
    error = max(float(np.abs(mine[name] - single[Path(name).name]).max()) for name in mine.files)
    assert error < 0.05, f"features differ by {error:.1e}"
    name = f"{len(mine.files)} files, {total:g} s, {'a toy of HuBERT' if quick else 'HuBERT Base'}, to npz"
    note = (
        "with loading of the model and compilation, without imports; the last layer. Against files one by one, "
        f"features differ by {error:.0e} at most. Padding in transformers' batches changes features"
    )
    made = []
    for number, kind in enumerate(("", ", processor time")):
        for other in ("one by one", "batches of similar length"):
            spent = [[turn[number] for turn in times[program]] for program in ("ours", other)]
            made.append(
                Row(
                    f"embed{kind}: {name}",
                    f"transformers + soundfile, {other}",
                    *spent,
                    goal=1.5,
                    note=note,
                )
            )
    return made
