"""The loggers that the config key train.loggers names. The package of a logger is imported only if it is named."""

import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.progress import Say, silent
from jepa_speech.settings.run_config import RunConfig, flat, plain
from jepa_speech.settings.training import TrainConfig
from jepa_speech.training.loggers.background import Background, Report
from jepa_speech.training.loggers.logger import Logger, Service
from jepa_speech.training.loggers.mlflow import MlflowRun
from jepa_speech.training.loggers.tensorboard import TensorBoard
from jepa_speech.training.loggers.wandb import WandbRun

Row = Mapping[str, Any]  # of metrics.jsonl
SERVICES: dict[str, Callable[[Path, str, Mapping[str, Any]], Service]] = {"wandb": WandbRun, "mlflow": MlflowRun}


def check_installed(names: Iterable[str]) -> None:
    """Raises UserError if a package that one of the loggers needs is not installed."""
    needed = {"tensorboard": ["tensorboardX"], "wandb": ["wandb"], "mlflow": ["mlflow"]}
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        needed["mlflow"] += ["sqlalchemy", "alembic"]  # for its database in the run folder
    for name in names:
        if missing := [package for package in needed[name] if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"config key train.loggers names {name}, but {', '.join(missing)} is not installed: run "
                f"pip install --editable '.[{name}]' in the checkout"
            )


class Loggers:
    """The loggers of a run as one. Of several processes, only the one that writes has any."""

    def __init__(
        self,
        config: RunConfig,
        workdir: Path,
        step: int,
        past: Callable[[], Iterable[Row]],
        say: Say = silent,
        writes: bool = True,
    ) -> None:
        """step: where the run starts or resumes. past: returns the rows of metrics.jsonl up to there."""
        self.each: list[Logger] = []
        folder, values = workdir / "loggers", dict(flat(plain(config)))
        for name in dict.fromkeys(config.train.loggers) if writes else ():
            if name == "tensorboard":
                self.each.append(TensorBoard(workdir / "tensorboard", step, say))
                continue
            folder.mkdir(exist_ok=True)
            service = partial(SERVICES[name], folder, workdir.resolve().name, values)
            self.each.append(Background(name, service, reports(config.train, past())))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step, without those that are not finite, for which metrics.jsonl has null."""
        finite = {name: value for name, value in values.items() if name != "epoch" and math.isfinite(value)}
        for logger in self.each:
            logger.log(step, finite)

    def close(self) -> None:
        for logger in self.each:
            logger.close()


def reports(train: TrainConfig, rows: Iterable[Row]) -> Iterator[Report]:
    """Yields the steps and values that `Loggers.log` got when these rows were written."""
    for row in rows:
        if train.report_due(row["step"]) or any(name.startswith(("heldout_", "probe_")) for name in row):
            yield row["step"], {name: x for name, x in row.items() if name not in ("step", "epoch") and x is not None}
