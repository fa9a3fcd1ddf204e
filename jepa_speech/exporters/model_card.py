"""The model card (README.md) of an exported model: what it is, its origin, and how to run it."""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jepa_speech
from jepa_speech.files import read_json
from jepa_speech.huggingface.export_folder import Exported, own, takes_padding
from jepa_speech.path_lists import weighted_paths
from jepa_speech.probing import evaluate
from jepa_speech.probing.saved import read_results
from jepa_speech.settings.run_config import Inputs, RunConfig
from jepa_speech.training.checkpoint_steps import located, name_of

JOINERS = "\u200c\u200d"  # not printable by Python's rules, but needed in words and emoji
REMOTE = ", trust_remote_code=True"
HEADER = """---
license: unknown  # to be filled in; it also depends on the recordings' licences
library_name: transformers
pipeline_tag: {task}
tags: [audio, speech, self-supervised]
---
"""
USE = """```python
import torch
from transformers import AutoFeatureExtractor, {kind}

extractor, model = AutoFeatureExtractor.from_pretrained("DIR"), {kind}.from_pretrained("DIR"{option}).eval()
inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")  # wave (S,), 16 kHz, of any level
with torch.no_grad():
    out = model(**inputs, output_hidden_states=True)
layers = (*out.hidden_states[:-1], out.last_hidden_state)  # (B, T, D) each, 50 frames per second
```

`layers` are those of jepa_speech: the input of the first block, then each block's output. {last}
"""
LAST = "For this model they equal `hidden_states`."
LAST_PRE_NORM = """The last one is taken after the
closing layer norm; in transformers 5, the last entry of `hidden_states` is taken before it."""
USE_CTC = """```python
from transformers import pipeline

recogniser = pipeline("automatic-speech-recognition", "DIR"{option})
text = recogniser(wave)["text"]  # wave (S,) float32, 16 kHz, of any level
```

The text is that of greedy decoding, without a language model.
"""
NORMALISED_OVER_TIME = """**Run it without padding**, one recording at a time (or only recordings of equal length
together): the front-end normalises over time, so padding would change all frames.
"""
STACKED = """**Run it without padding**, one recording at a time: transformers sets padding to 0 only before the first
of the stacked positional convolutions. Padding thus reaches the last frames of a row, and by attention all others.
"""
SHIFTED = """**Run it without padding**, one recording at a time: the batch norm of the positional convolution shifts
padding away from zero, so padding reaches the last frames of a row, and by attention all others.
"""
CONVOLVED = """**Run it without padding**, one recording at a time (or only recordings of equal length together):
in transformers, padding reaches the convolutions in the blocks, and by attention all frames.
"""
PADDED = """Batches may be padded, with the attention mask of the extractor: padding does not change the layers.
"""

ROUNDED = """Weights of two or more axes are rounded to bfloat16, so layers differ slightly from those of the run. The
model computes in float32.
"""
KEEP = """To continue training, use the run folder. This folder lacks the heads of pretraining (cluster head, predictor,
quantizer), the teacher, λ and the optimizer's state. `jepa-speech import hf` initialises heads randomly, copies the
encoder as teacher, and for the objective gmm_jepa, whose cluster head is then untrained, sets λ to 0.
"""
KEEP_CTC = """To continue training, use the run folder: this folder lacks the optimizer's state. To start a new run with
this encoder, CTC layer and vocabulary, make a run of this folder with `jepa-speech import hf`, and train with
`configs/finetune_ctc.py:RUN`.
"""
OWN_LEVEL = """Pass waves in [-1, 1] at their recorded level: do not normalise them.
"""
# Kind of encoder -> largest difference on speech, as a share of a layer's root mean square (docs/export.md).
LARGEST = {"logmel": "1e-4", "conv": "1e-5", "theirs": "1e-4", "wav2vec2-bert": "1e-4"}
CAUSES = {
    "logmel": ", because the logarithm enlarges the rounding error of a float32 FFT in weak bands",
    "conv": "",
    "theirs": ", because the feature extractor adds 1e-7 to the variance of a wave (5% in scale at a level of 0.001)",
    "wav2vec2-bert": ", because the feature extractor computes in float64 and the run in float32",
}


def model_card(run: str | Path, config: RunConfig, step: int, exported: Exported) -> str:
    """Returns the text of README.md. run: the folder with config.json and possibly results of `jepa-speech probe`."""
    name, remote = exported.config["architectures"][0], own(exported.config)
    code, option = ("the torch code beside it" if remote else "transformers"), REMOTE if remote else ""
    if exported.tokenizer:
        use, task, what, left = USE_CTC, "automatic-speech-recognition", "encoder and the CTC layer", ""
        keep = KEEP_CTC
    else:
        use, task, what, keep = USE, "feature-extraction", "encoder", KEEP
        left = " Heads and teacher, which only training needs, are left out."
    last = LAST_PRE_NORM if closing_norm(exported.config) else LAST
    use = use.format(kind="AutoModel" if remote else name, option=option, last=last)
    count = sum(array.size for array in exported.arrays.values())
    at = f" at step {step:,}" if step else ""  # 0: an imported model, which was not trained here
    dtype = "bfloat16" if exported.rounded else "float32"
    parts = [
        HEADER.format(task=task),
        f"# {escaped(name_of(run))}\n",
        f"The {what} of a {config.objective.name} run of jepa_speech {jepa_speech.__version__}{at}, "
        f"{count / 1e6:.2f}M parameters in {dtype}, as `{name}` of {code}.{left}\n",
        f"## How to run it\n\n{use}",
        advice(exported.config),
        closeness(exported),
        f"## Origin\n\n{table([['what', 'value'], *provenance(run, config, step)])}",
        keep,
        "## Licence\n\nTo be filled in, here and in the first lines of this file: LICENCE OF THE WEIGHTS, and the "
        "requirements of the recordings' licences.\n",
        f"## Results\n\n{results(run, step)}",
    ]
    return "\n".join(parts)


def closing_norm(theirs: Mapping[str, Any]) -> bool:
    """Whether a layer norm follows the last block."""
    return theirs["model_type"] == "wav2vec2-conformer" or bool(theirs.get("do_stable_layer_norm"))


def advice(theirs: Mapping[str, Any]) -> str:
    """Returns a sentence on whether batches may be padded."""
    if theirs["model_type"] == "data2vec-audio":
        return STACKED
    if theirs["model_type"] == "wav2vec2-conformer":
        return CONVOLVED
    if takes_padding(theirs):
        return PADDED
    return NORMALISED_OVER_TIME if theirs["feat_extract_norm"] == "group" else SHIFTED


def closeness(exported: Exported) -> str:
    """Returns sentences on the waves that it takes, or on the difference to the run."""
    if exported.rounded:
        return ROUNDED if exported.normalised else f"{OWN_LEVEL}\n{ROUNDED}"
    return exactness(exported.config) if exported.normalised else OWN_LEVEL


def exactness(theirs: Mapping[str, Any]) -> str:
    """Returns a sentence on the difference between exported layers and those of the run."""
    kind = theirs["frontend"] if own(theirs) else "theirs"
    if theirs["model_type"] == "wav2vec2-bert":  # its extractor makes features instead of waves
        kind = "wav2vec2-bert"
    return (
        f"On speech, layers differed from those of the run by up to {LARGEST[kind]} of a layer's root mean "
        f"square{CAUSES[kind]}.\n"
    )


def provenance(run: str | Path, config: RunConfig, step: int) -> list[list[str]]:
    """Returns rows (what, value) that identify the run and its data. Paths are reduced to their last part."""
    folder, _ = located(run)
    rows = [
        ["objective", config.objective.name],
        [
            "SHA-256 of the run's config.json",
            hashlib.sha256((folder / "config.json").read_bytes()).hexdigest(),
        ],
        ["checkpoint", f"step {step} of {config.train.steps}, seed {config.seed}"],
        ["arithmetic in training", getattr(config.encoder, "dtype", "float32")],
    ]
    inputs = config.inputs or Inputs()
    if store := config.data.store:
        parts = weighted_paths(store, "data.store")
        shares = [Path(path).name + (f" (weight {weight:g})" if len(parts) > 1 else "") for path, weight in parts]
        rows.append(["data", f"{', '.join(shares)}; store fingerprint {inputs.store or 'unknown'}"])
    if inputs.anchor:
        rows.append(["anchor", f"fingerprint {inputs.anchor}"])
    if config.init_from:
        rows.append(["started from", Path(config.init_from).name])
    if config.imported:
        name, kind = Path(config.imported.folder).name, config.imported.model_type or "unknown"
        rows.append(["imported from", f"{name}, a {kind} checkpoint"])
    return rows


def results(run: str | Path, step: int) -> str:
    """Returns a table of this step's results of `jepa-speech probe` in the run folder, or in a folder of it."""
    paths = [path for pattern in ("*.json", "*/*.json") for path in sorted(located(run)[0].glob(pattern))]
    found = {path: part for path in paths if isinstance(part := read_json(path), dict)}
    written = {path: part for path, part in found.items() if "tasks" in part and "recipe" in part}
    # Baselines and results of earlier versions name no step.
    probed = [read_results(path) for path, part in written.items() if part.get("step", step) == step]
    if not probed:
        of = f" of step {step}" if written else ""
        return f"The run folder has none{of} (`jepa-speech probe --checkpoint RUN --out RUN/probe` writes them).\n"
    return f"Frozen features, by `jepa-speech probe`:\n\n{table(evaluate.table(probed))}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; the first row is the header. Cells are plain text."""
    lines = ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""])


def escaped(text: str) -> str:
    """Returns a text as one line of Markdown, escaped so that markup, links and HTML have no effect.

    Names of folders, stores and results are untrusted, and web pages show the card.
    """
    text = "".join(letter if letter.isprintable() or letter in JOINERS else " " for letter in text)
    text = html.escape(text, quote=False)
    text = re.sub(r"([\\`*~|$])", r"\\\1", text)
    text = re.sub(r"\](?=[(\[:])", r"\\]", text)  # only brackets before ( [ : make a link
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it is no markup
    return re.sub(r"(?i)://|(?<=www)\.|@", lambda found: "".join(f"&#{ord(c)};" for c in found[0]), text)
