"""`jepa_speech.export_hf`, `export_onnx`, `export_s3prl` and `export_stablehlo`: a run folder → what others read."""

from pathlib import Path
from typing import Any, Literal

from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.cloud.folders import new_folder
from jepa_speech.exporters import onnx, s3prl, stablehlo
from jepa_speech.exporters.model_card import model_card
from jepa_speech.files import write_text
from jepa_speech.huggingface.ctc_layer import CtcLayer, with_ctc
from jepa_speech.huggingface.export_folder import in_bfloat16, to_huggingface, write_folder
from jepa_speech.objective_parts.contract import HasTexts
from jepa_speech.objectives.ctc import CtcConfig
from jepa_speech.ownership import refuse_existing
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.pretrained.load import load_pretrained
from jepa_speech.training.checkpoint_steps import Step


@takes_buckets(checkpoint=copied_model, out=new_folder("config.json"))
def export_hf(
    checkpoint: str | Path,
    out: str | Path,
    *,
    step: Step | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> dict[str, Any]:
    """Write a folder for transformers (docs/export.md lists the classes), with the CTC layer if the run has one.

    checkpoint: a run folder, or one of transformers. out: a new folder. Both may be in a bucket.
    step: which checkpoint of the run: its step, "latest" or "best"; default: the latest.
    dtype: of the weights in the file; the model computes in float32 either way.

    Returns `out`, `step`, `class` (the name of the model's class), `parameters` (number), `files` (names) and
    `writes_texts` (whether the CTC layer is there). Raises UserError for a checkpoint or an encoder that cannot be
    used, and a folder that holds such files.
    """
    model = load_pretrained(checkpoint, step)
    exported = to_huggingface(model.config, model.params["encoder"])
    if isinstance(model.objective, HasTexts):
        keys = model.config.objective
        adapter = (model.params["adapter"], keys) if isinstance(keys, CtcConfig) and keys.adapter else None
        exported = with_ctc(exported, CtcLayer(model.params["head"], model.objective.vocabulary, adapter))
    if dtype == "bfloat16":
        exported = in_bfloat16(exported)
    files = write_folder(out, exported, model_card(checkpoint, model.config, model.step, exported))
    return {
        "out": str(out),
        "step": model.step,
        "class": exported.config["architectures"][0],
        "parameters": sum(array.size for array in exported.arrays.values()),
        "files": files,
        "writes_texts": bool(exported.tokenizer),
    }


@takes_buckets(checkpoint=copied_model, out=new_folder("README.md"))
def export_onnx(checkpoint: str | Path, out: str | Path, *, step: Step | None = None) -> dict[str, Any]:
    """Write OUT/model.onnx: waves of any number and length → all layers (docs/export.md).

    Arguments and errors as of `export_hf`; needs torch, transformers and onnxscript.

    Returns `out`, `step`, `class`, `bytes` of the file, and its `inputs` and `outputs` (names).
    """
    path = Path(out) / "model.onnx"
    refuse_existing(path.parent, [path.name, "README.md"])
    model = load_pretrained(checkpoint, step)
    exported = to_huggingface(model.config, model.params["encoder"])
    size = onnx.write_onnx(path, exported)
    write_text(path.with_name("README.md"), model_card(checkpoint, model.config, model.step, exported))
    about = {"out": str(out), "step": model.step, "class": exported.config["architectures"][0], "bytes": size}
    return about | {"inputs": onnx.INPUTS, "outputs": onnx.OUTPUTS}


@takes_buckets(checkpoint=copied_model, out=new_folder("hubconf.py"))
def export_s3prl(checkpoint: str | Path, out: str | Path, *, step: Step | None = None) -> dict[str, Any]:
    """Write an upstream folder for S3PRL: a list of waves → `hidden_states`.

    Arguments and errors as of `export_hf`. Returns `out`, `step`, `class` and `files` (names).
    """
    model = load_pretrained(checkpoint, step)
    exported = to_huggingface(model.config, model.params["encoder"])
    files = s3prl.write_upstream(out, exported, model_card(checkpoint, model.config, model.step, exported))
    return {"out": str(out), "step": model.step, "class": exported.config["architectures"][0], "files": files}


@takes_buckets(checkpoint=copied_model, out=new_folder("export.json"))
def export_stablehlo(checkpoint: str | Path, out: str | Path, *, step: Step | None = None) -> dict[str, Any]:
    """Write a program that jax runs without this package, of any encoder: waves of any number and length → all layers.

    Arguments and errors as of `export_hf`; needs flatbuffers.

    Returns what OUT/export.json holds (`objective`, `step`, `layers`, `width`, `parameters` and more), `out` and
    `files` (names).
    """
    refuse_existing(Path(out), ["export.json", *stablehlo.FILES])
    model = load_pretrained(checkpoint, step)
    program = stablehlo.to_stablehlo(model.objective, model.params, model.aux_state)
    about = stablehlo.write_folder(str(out), program, checkpoint, model.config, model.objective, model.step)
    return {"out": str(out), **about, "files": list(stablehlo.FILES)}
