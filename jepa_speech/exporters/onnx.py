"""Writes an encoder as one ONNX file with variable batch size and length, through its transformers model.

torch, transformers and onnxscript are imported inside functions, because only this export needs them.
"""

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.features.grid import WINDOW
from jepa_speech.files import replacing
from jepa_speech.huggingface.export_folder import CONFORMERS, Exported, own, write_folder

INPUTS, OUTPUTS = ["waves", "mask"], ["hidden_states"]
REGISTRATION = "torch.onnx._internal.exporter._registration"  # the logger that warns that torchvision is missing


def write_onnx(path: str | Path, exported: Exported) -> int:
    """Writes the function (waves (B, S) float32 at 16 kHz, mask (B, S) int64) -> hidden_states (B, layers, T, D).

    Returns the size of the file in bytes. Raises UserError if a package is missing or the file cannot be written.
    """
    if (kind := exported.config["model_type"]) in CONFORMERS.values():
        raise UserError(f"{kind} has no ONNX export; use `jepa-speech export hf` or `export stablehlo`")
    if missing := [name for name in ("torch", "transformers", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{', '.join(missing)}: not installed; pip install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "model", exported, "")
        made = Path(folder) / "model.onnx"
        _translate(Path(folder) / "model", made, exported)
        try:
            with replacing(path) as file:
                return file.write(made.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _translate(folder: Path, made: Path, exported: Exported) -> None:
    import torch
    from transformers import AutoModel

    ours = own(exported.config)
    scaled = standardised if exported.normalised else within
    turns = torch.arange(WINDOW).outer(torch.arange(WINDOW // 2 + 1)) % WINDOW  # in 400ths: exact
    angle = 2 * torch.pi / WINDOW * turns.double()
    basis = torch.cat([angle.cos(), angle.sin()], 1)  # (400, 402)

    def power(windows: torch.Tensor) -> torch.Tensor:
        """Returns power spectra: (B, T, 400) -> (B, T, 201).

        The error of the logarithm is 1e-6, while that of onnxruntime's Fourier transform is 2.6e-3.
        """
        real, imaginary = (windows.double() @ basis).float().chunk(2, -1)
        return real.square() + imaginary.square()

    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, trust_remote_code=ours)
            if ours:
                self.model.standardise = standardised
                if self.model.config.frontend == "logmel":
                    self.model.frontend.power = power

        def forward(self, waves: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            waves = waves if ours else scaled(waves, mask > 0)
            out = self.model(waves, attention_mask=mask, output_hidden_states=True)
            return torch.stack([*out.hidden_states[:-1], out.last_hidden_state], 1)

    # Sizes other than 1 and a mask with zeros, so that tracing finds no special case.
    waves, mask = torch.randn(2, 16_000), torch.ones(2, 16_000, dtype=torch.long)
    mask[1, 5_000:] = 0
    open_axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings(), without_torchvision(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own code
        program = torch.onnx.export(
            Layers().eval(),
            (waves, mask),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=(open_axes, open_axes),
            dynamo=True,
            verbose=False,
        )
        program.save(made)


def standardised(waves: Any, inside: Any) -> Any:
    """Like `standardise`, with sums in double precision.

    The error of onnxruntime's float32 sum over a wave is up to 1e-5, and layer norms enlarge it in quiet frames.
    """
    from jepa_speech.huggingface.modeling_jepa_speech import standardise

    return standardise(waves.double(), inside).float()


def within(waves: Any, inside: Any) -> Any:
    """Returns the waves, with 0 after the end of a row."""
    return waves * inside


@contextmanager
def without_torchvision() -> Iterator[None]:
    """Suppresses torch's warning that torchvision is missing, which no encoder here uses."""

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed")

    logger = logging.getLogger(REGISTRATION)
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
