"""Weights & Biases (https://docs.wandb.ai), set up by its own variables, such as WANDB_MODE and WANDB_PROJECT."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa_speech.training.loggers.logger import keep_run_id, run_id


class WandbRun:
    """The W&B run of a run folder.

    W&B drops a row, with a warning, unless its step exceeds those before. Online, `last` is the last step on the
    server. Offline, every start writes a new folder, and uploading one may replace what the server has of the run. So
    `last` is 0 there, and the newest folder holds the whole run.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        """config: values by dotted keys. Raises what `wandb.init` raises."""
        import wandb

        if not (known := run_id(folder, "wandb")):
            keep_run_id(folder, "wandb", known := secrets.token_hex(4))
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jepa_speech"),
            name=os.environ.get("WANDB_NAME", name),
            id=known,
            resume="allow",
            dir=folder,
            config=dict(config),
            # The console is not captured, because that replaces stdout and stderr for all threads. The end of the
            # process waits for an upload no longer than `Background` does.
            settings=wandb.Settings(console="off", quiet=True, finish_timeout=50),
        )
        self.last = self.run.starting_step - 1 if self.run.resumed else 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step, commit=True)

    def close(self) -> None:
        self.run.finish()
