"""Two guards on the figures of a step: a loss that is not finite, and a representation that has collapsed.

`make_step` skips a batch that is not finite. Here the batch is recorded, and too many in a row end the run. The figures
are the same on every process, so all processes stop at the same step.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jepa_speech.errors import UserError
from jepa_speech.objective_parts.collapse import HEALTHY, collapsed
from jepa_speech.training.metrics import RunLog
from jepa_speech.wording import counted

PATIENCE = 3  # reports in a row that show a collapse, after which `train.collapse = stop` ends the run


def check_trained(skipped: float, steps: int) -> None:
    """Raises UserError if more than half of the steps of a finished run were skipped, so that it is hardly trained."""
    if 2 * skipped > steps:
        raise UserError(
            f"{skipped} of {counted(steps, 'step')} skipped, since their loss or gradient was not finite; the "
            "checkpoint stays, but do not use it. events.jsonl names the records. Lower optim.learning_rate and use "
            "another --workdir"
        )


class Sentinel:
    """Reports skipped batches and collapses in events.jsonl and above the bar. Raises UserError to end the run.

    max_skipped: the number of steps in a row without a finite loss or gradient that ends the run. policy: "warn", or
    "stop" after `PATIENCE` reports in a row that show a collapse. past: the rows of metrics.jsonl before this start, so
    that a resumed run counts like one that never stopped.
    """

    def __init__(
        self,
        max_skipped: int,
        policy: str,
        log: RunLog,
        say: Callable[[str], None],
        past: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.max_skipped, self.policy, self.log, self.say = max_skipped, policy, log, say
        self.in_row = 0
        for figures in past:
            if figures.keys() & HEALTHY.keys():  # a report
                self.in_row = self.in_row + 1 if collapsed(figures) else 0

    def finite(self, step: int, skipped_in_row: int, batch: Mapping[str, np.ndarray]) -> None:
        """Writes an event for a skipped batch, with the record ids of this process.

        Raises UserError after `max_skipped` in a row.
        """
        if not skipped_in_row:
            return
        records = batch["record_id"][batch["weight"] > 0].tolist()
        self.log.event("skip", step=step, in_row=skipped_in_row, records=records)
        if skipped_in_row >= self.max_skipped:
            raise UserError(
                f"the loss or its gradient was not finite {self.max_skipped} times in a row, last at step "
                f"{step}; events.jsonl names the records. Lower optim.learning_rate and use another --workdir"
            )

    def alive(self, step: int, report: Mapping[str, float]) -> None:
        """Checks the figures of one report for a collapse. Raises UserError if the policy is to stop."""
        alarm = collapsed(report)
        self.in_row = self.in_row + 1 if alarm else 0
        if not alarm:
            return
        self.log.event("collapse", step=step, what=alarm, in_row=self.in_row)
        if self.policy == "stop" and self.in_row >= PATIENCE:
            raise UserError(
                f"the representation has collapsed: {alarm}, {self.in_row} reports in a row, last at step {step}; the "
                "checkpoints stay. Lower optim.learning_rate, or make the teacher slower or the anchor stronger, and "
                "use another --workdir. To continue this run, pass --config.train.collapse=warn"
            )
        self.say(f"step {step}: possible collapse: {alarm} (docs/reading-curves.md)")
