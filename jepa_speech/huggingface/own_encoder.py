"""Convert this project's own encoder (`nn/encoder.py`) to a torch model (`modeling_jepa_speech.py`) and back."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jepa_speech import checked
from jepa_speech.config import from_section
from jepa_speech.errors import UserError
from jepa_speech.features.filters import hann, mel_bank
from jepa_speech.features.grid import WINDOW
from jepa_speech.huggingface.config import check_sizes, checked_config
from jepa_speech.huggingface.families import OWN, OWN_KEYS, own_section
from jepa_speech.nn.blocks import rotary_frequencies
from jepa_speech.nn.encoder import Encoder, EncoderConfig
from jepa_speech.nn.frontends import SUBSAMPLED, LogMelFrontend
from jepa_speech.nn.masks import Fill
from jepa_speech.nn.module import Params, Pure

MODULE = "modeling_jepa_speech"  # the file that is copied beside the weights


def to_torch(section: EncoderConfig, encoder: Params) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns config.json and the arrays, in torch's names and layout, of an encoder.

    section: its config section. encoder: its parameters. Raises UserError for a subsampled front-end.
    """
    if section.frontend in SUBSAMPLED:
        raise UserError(
            f"encoder.frontend = {section.frontend}: there is no torch code for it. Use `jepa-speech export stablehlo` "
            "or `jepa-speech embed`, or train with encoder.frontend = conv or logmel"
        )
    arrays = {their_name(path): turned(path, x) for path, x in jax.tree_util.tree_leaves_with_path(encoder)}
    theirs = {
        "architectures": ["JepaSpeechModel"],
        "auto_map": {"AutoConfig": f"{MODULE}.JepaSpeechConfig", "AutoModel": f"{MODULE}.JepaSpeechModel"},
        "model_type": OWN,
        "dtype": "float32",
        **{name: getattr(section, ours) for ours, name, _ in OWN_KEYS},
        "masked_embedding": "mask_embedding" in arrays,
    }
    return theirs, arrays | constants(section)


def constants(section: EncoderConfig) -> dict[str, np.ndarray]:
    """Returns the constants that the torch model computes with, equal to those of our own code to the bit."""
    found = {"frequencies": np.asarray(rotary_frequencies(section.width // section.heads // 2))}
    if section.frontend == "logmel":
        found |= {"frontend.hann": hann(WINDOW), "frontend.mel": mel_bank(LogMelFrontend.width, WINDOW)}
    return found


def from_torch(
    theirs: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str = "config.json"
) -> tuple[dict[str, Any], Params]:
    """Returns config section `encoder` and the parameters: the inverse of `to_torch`.

    where: names the config's file. Raises UserError for wrong values there, and for other arrays.
    """
    theirs = checked_config(theirs, where)
    check_sizes(theirs, arrays, where)
    section = own_section(theirs)
    config = from_section(EncoderConfig, section, "encoder")
    fill: Fill = "learned" if theirs["masked_embedding"] else "random"
    shapes = jax.eval_shape(Pure(lambda rngs: Encoder(config, fill, rngs)).init, jax.random.key(0))
    wanted = {their_name(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(shapes)}
    if wanted.keys() != arrays.keys() - constants(config).keys():
        differing = sorted(wanted.keys() ^ (arrays.keys() - constants(config).keys()))
        raise UserError(f"model.safetensors: its arrays do not match config.json: {', '.join(differing[:3])}")

    def fill_in(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = their_name(path)
        where = f"model.safetensors: {name}"
        if not jnp.issubdtype(arrays[name].dtype, jnp.floating):
            raise UserError(f"{where} has type {arrays[name].dtype}; only floating point can be read")
        array = turned(path, arrays[name])
        if array.shape != leaf.shape:
            raise UserError(f"{where} has a shape that does not match config.json")
        return jnp.asarray(checked.array(array, where, shape=leaf.shape))

    return section, jax.tree_util.tree_map_with_path(fill_in, shapes)


def their_name(path: tuple[Any, ...]) -> str:
    *parents, last = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join([*parents, "weight" if last in ("kernel", "scale") else last])


def turned(path: tuple[Any, ...], array: Any) -> np.ndarray:
    """Kernels from (in, out) and (kernel, in, out) to torch's layout and back, in float32."""
    array = np.asarray(array, np.float32)
    return array.T if path[-1].key == "kernel" else array
