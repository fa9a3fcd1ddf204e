"""Where the wall time of a run went, over all its attempts."""

from pathlib import Path
from typing import Any

from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UserError
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.training import ledger
from jepa_speech.training.run_files import whole_events


@takes_buckets(workdir=copied_model)
def goodput(workdir: str | Path) -> dict[str, Any]:
    """Add up the times in the event log of a run folder.

    Returns a dict: `seconds` (by what they were spent on: step, fetch_wait, data_wait, compile, evaluation, probe,
    checkpoint, init, lost, down), `wall` (their sum, s), `goodput` (the share of `step` in it), `attempts`,
    `lost_steps`, `step` (the last one) and `first_step` (0, unless the log of earlier steps is lost).

    Raises UserError if the folder has no events.jsonl, or one without times.
    """
    path = Path(workdir) / "events.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    events = whole_events(path)
    found = ledger.goodput(events)
    first = next(event["step"] for event in events if event["event"] in ("start", "resume"))
    return found | {"first_step": first}
