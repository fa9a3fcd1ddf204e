"""Read a folder that transformers' save_pretrained wrote: config.json, and the weights in one safetensors file, or in
several with model.safetensors.index.json. No code in the folder is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jepa_speech import checked
from jepa_speech.errors import UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.files import read_json, read_object
from jepa_speech.huggingface.config import checked_config
from jepa_speech.huggingface.families import FAMILIES
from jepa_speech.huggingface.family import NORMALISED
from jepa_speech.huggingface.safetensors import read_safetensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
OF_WEIGHTS = (".safetensors", ".bin", ".h5", ".msgpack", ".pt", ".ckpt")
ADAPTERS = "adapter.*.safetensors"  # of MMS, one for each language


def has_weights(folder: str | Path) -> bool:
    """Returns whether the folder holds weights of transformers."""
    return any((Path(folder) / name).is_file() for name in (WEIGHTS, INDEX))


def read_folder(path: str | Path, adapter: str = "") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns (config as `read_config` does, arrays by name, not yet read from disk). Raises UserError.

    adapter: the language whose adapters, adapter.LANG.safetensors, replace those in the weights; "" for none.
    """
    path = Path(path)
    config, arrays = read_config(path), read_weights(path)
    return config, arrays | read_adapter(path, adapter, arrays) if adapter else arrays


def read_config(path: str | Path) -> dict[str, Any]:
    """Returns a folder's checked config, with `do_normalize` of preprocessor_config.json. Raises UserError."""
    path = Path(path)
    file = path / "config.json"
    if not file.is_file():
        raise UserError(f"{path}: no config.json in it; pass a folder that transformers' save_pretrained wrote")
    config = checked_config(read_json(file), str(file))
    config[NORMALISED] = takes_unit_level(path, config)
    return config


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a folder by name. Raises UserError."""
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return read_shards(folder)
    old = folder / "pytorch_model.bin"
    if old.is_file():
        raise UserError(
            f'{old}: a pickle, which is not read here; convert it where torch is: python -c "import torch; '
            f"from safetensors.torch import save_file; save_file({{name: x.clone().contiguous() for name, x in "
            f"torch.load('{old}', map_location='cpu', weights_only=True).items()}}, '{folder / WEIGHTS}')\""
        )
    others = sorted(path.name for path in folder.iterdir() if path.name.endswith(OF_WEIGHTS))
    there = f" (there: {', '.join(others[:4])}{', ...' if others[4:] else ''})" if others else ""
    if any(name.endswith(".safetensors") and not name.startswith("adapter") for name in others):
        raise UserError(f"{folder}: neither {WEIGHTS} nor {INDEX} in it{there}: rename the weights to {WEIGHTS}")
    raise UserError(
        f"{folder}: neither {WEIGHTS} nor {INDEX} in it{there}; load the model with transformers, and save it with "
        "save_pretrained"
    )


def read_adapter(folder: Path, adapter: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a language's adapters (MMS). Raises UserError where there are none, or others than `arrays`
    has.
    """
    found = sorted(path.name.removeprefix("adapter.").removesuffix(".safetensors") for path in folder.glob(ADAPTERS))
    if adapter not in found:
        known = f"there are {', '.join(found[:8])}{', ...' if found[8:] else ''}" if found else "there are none"
        raise UserError(f"{folder}: no adapter.{adapter}.safetensors in it; {known}: choose one, or download the file")
    file = folder / f"adapter.{adapter}.safetensors"
    theirs = read_safetensors(file)
    wanted, given = ({name for name in each if ".adapter_layer." in name} for each in (arrays, theirs))
    if not wanted or wanted != given:
        raise UserError(
            f"{file}: {len(given)} arrays of adapters, where the weights beside it have {len(wanted)}, of which "
            f"{len(wanted & given)} have the same names: it is of another model; download both again"
        )
    return theirs


def read_shards(folder: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of all files that the index names. Raises UserError where index and files do not agree."""
    path = folder / INDEX
    again = "the download is not complete, or its files are of different models: download all of them again"
    where = checked.field(read_json(path), "weight_map", dict, str(path))
    for name, shard in where.items():
        file = checked.value(shard, f"{path}: weight_map: {checked.shown(name)}", str)
        if file in ("", ".", "..") or "/" in file or "\\" in file or "\0" in file:
            raise UserError(f"{path}: {checked.shown(name)} is in {checked.shown(file)}, not a file of this folder")
    arrays: dict[str, np.ndarray] = {}
    held: dict[str, str] = {}  # which shard an array was found in
    for shard in sorted(set(where.values())):
        if not (folder / shard).is_file():
            raise UserError(f"{path}: {shard} is missing: {again}")
        for name, array in read_safetensors(folder / shard).items():
            if name in held:
                raise UserError(f"{path}: both {held[name]} and {shard} hold {checked.shown(name)}: {again}")
            arrays[name], held[name] = array, shard
    for name, shard in where.items():
        if held.get(name) != shard:
            raise UserError(f"{path}: {checked.shown(name)} is not in {shard}: {again}")
    if not arrays:
        raise UserError(f"{path}: weight_map is empty: {again}")
    return arrays


def takes_unit_level(folder: Path, config: Mapping[str, Any]) -> bool:
    """Returns whether the model takes waves at mean 0 and deviation 1, and not as recorded.

    Raises UserError for a model of another sample rate than ours, or of another filter bank.
    """
    where, theirs = extractor_settings(folder)
    if (rate := checked.field(theirs, "sampling_rate", (int, float), where, default=SAMPLE_RATE)) != SAMPLE_RATE:
        raise UserError(
            f"{where}: 'sampling_rate' is {rate}; recordings are read at {SAMPLE_RATE} Hz: choose a model of that rate"
        )
    for key, only in FAMILIES[config["model_type"]].extractor.items():
        if (found := checked.field(theirs, key, int, where, default=only)) != only:
            raise UserError(f"{where}: {key} = {found}; only {only} can be read: choose a model with {only}")
    return checked.field(theirs, NORMALISED, bool, where, default=True)


def extractor_settings(folder: Path) -> tuple[str, Any]:
    """Returns which file has the settings of the feature extractor, and the settings: {} without a file.

    transformers 5 writes them to processor_config.json, which it reads first, if the model has a tokenizer as well.
    """
    whole, alone = folder / "processor_config.json", folder / "preprocessor_config.json"
    if whole.is_file() and (part := read_object(whole).get("feature_extractor")) is not None:
        return f"{whole}: feature_extractor", part
    return str(alone), read_json(alone) if alone.is_file() else {}
