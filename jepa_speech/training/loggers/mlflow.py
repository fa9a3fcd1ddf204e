"""MLflow (https://mlflow.org/docs), set up by MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jepa_speech.errors import UserError
from jepa_speech.training.loggers.logger import keep_run_id, run_id

LONGEST = 500  # characters of a parameter's value, which every version accepts
AT_ONCE = 100  # parameters of one request


def database_uri(folder: Path) -> str:
    """Returns the URI of a SQLite database in an absolute folder.

    Raises UserError for a path with ? or %: MLflow would write elsewhere, or if they are quoted, make a second folder.
    """
    if set("?%") & set(str(folder)):
        raise UserError(f"MLflow cannot have a database in {folder}, because of ? or %: set MLFLOW_TRACKING_URI")
    return f"sqlite:///{folder}/mlflow.db"


class MlflowRun:
    """The MLflow run of a run folder, in a database there or on the server of MLFLOW_TRACKING_URI.

    MLflow keeps all values that it gets, so a step that is logged twice has two points in each curve.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        """config: values by dotted keys, logged as parameters. Raises what MLflow raises."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent that the user did not ask for
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.metric = Metric
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or database_uri(folder.resolve()))
        self.run_id = run_id(folder, "mlflow")
        if self.run_id:
            self.client.update_run(self.run_id, status="RUNNING")
            self.last = max((point.step for point in self.client.get_metric_history(self.run_id, "loss")), default=0)
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "jepa_speech")
        found = self.client.get_experiment_by_name(experiment)
        where = found.experiment_id if found else self.client.create_experiment(experiment)
        self.run_id = self.client.create_run(where, run_name=name).info.run_id
        # A parameter cannot be changed later, so the run shows the config of its first start.
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in config.items()]
        for first in range(0, len(parameters), AT_ONCE):
            self.client.log_batch(self.run_id, params=parameters[first : first + AT_ONCE])
        keep_run_id(folder, "mlflow", self.run_id)
        self.last = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[self.metric(name, x, now, step) for name, x in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.run_id)
