"""Writes an encoder as an upstream of S3PRL: `expert.py`, `hubconf.py`, and the folder for transformers as `model`.

It follows S3PRL's documented interface: `UpstreamExpert(ckpt, model_config)`, `forward(list of waves)` to a dict with
`hidden_states`, `get_downsample_rates(key)`, and an entry in `hubconf.py`. S3PRL itself is never imported.
"""

from pathlib import Path

from jepa_speech.errors import UserError
from jepa_speech.files import write_text
from jepa_speech.huggingface.export_folder import Exported, write_folder
from jepa_speech.ownership import refuse_existing

HUBCONF = '''"""The entry point for S3PRL and torch.hub."""

import importlib.util
from pathlib import Path


def jepa_speech(ckpt=None, **kwargs):
    """Returns the upstream of `expert.py`. ckpt: another folder that `jepa-speech export hf` wrote."""
    spec = importlib.util.spec_from_file_location("jepa_speech_expert", Path(__file__).with_name("expert.py"))
    expert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(expert)
    return expert.UpstreamExpert(ckpt, **kwargs)
'''


def write_upstream(folder: str | Path, exported: Exported, card: str) -> list[str]:
    """Writes the folder and returns the files' names. hubconf.py is written last, so it marks a complete folder.

    Raises UserError if the folder has a file of one of these names, or cannot be written.
    """
    if (kind := exported.config["model_type"]) == "wav2vec2-bert":  # the upstream passes waves on, not features
        raise UserError(f"{kind} has no S3PRL export; use `jepa-speech export hf` or `export stablehlo`")
    folder = Path(folder)
    refuse_existing(folder, ["hubconf.py", "expert.py"])
    files = [f"model/{name}" for name in write_folder(folder / "model", exported, card)]
    code = {"expert.py": Path(__file__).with_name("s3prl_expert.py").read_text("utf-8"), "hubconf.py": HUBCONF}
    try:
        for name, text in code.items():
            write_text(folder / name, text)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    return [*files, *code]
