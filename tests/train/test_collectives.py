"""What a step sends, read from the compiled module of a real objective on 8 devices, against the closed form.

Neither the batch nor the model's width stands in the closed form but through the parameters: an activation that is
exchanged would show.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jepa_speech.costs.exchange import Bytes, traffic
from jepa_speech.train.compiled import Collective, sent_by_kind

SENT = Path(__file__).with_name("sent.py")


@pytest.mark.parametrize(
    ("data", "fsdp"),
    [(4, 2), pytest.param(8, 1, marks=pytest.mark.slow), pytest.param(1, 8, marks=pytest.mark.slow)],
)
def test_against_the_closed_form(data, fsdp):
    name = f"{data},{fsdp}"
    found = json.loads(subprocess.run([sys.executable, SENT, name], check=True, capture_output=True).stdout)[name]
    split, aux_state = found["params"]["split"], found["slow"]["split"]
    whole = found["params"]["all"] - split + found["stats"]["all"]
    assert found["sent"].keys() == ({"all-reduce"} if fsdp == 1 else {"all-gather", "all-reduce"})
    if fsdp > 1:  # each weight and each of the teacher's once, and nothing else
        assert found["sent"]["all-gather"] == {str(fsdp): split + aux_state}
    measured = sum(
        sent_by_kind(
            [
                Collective(kind, "", payload, int(group))
                for kind, groups in found["sent"].items()
                for group, payload in groups.items()
            ]
        ).values()
    )
    closed = traffic(Bytes(split, aux_state, whole), data, fsdp, scatter="all-reduce")
    # Beside the closed form: loss terms, norms of each gradient, a few more scalars; and the depthwise kernels, whose
    # gradients XLA sums over all devices at once.
    assert sum(closed.values()) == pytest.approx(measured, rel=0.02)
    # Where XLA writes a sum that is split as one collective, the least that could be sent.
    if fsdp > 1:
        assert sum(traffic(Bytes(split, aux_state, whole), data, fsdp).values()) < 0.85 * measured
    on_paper, compiled = found["temporaries"]
    assert compiled / 1.5 < on_paper < 1.5 * compiled  # `jepa-speech plan`: measured 1.02 times as much
    products, all_work = found["flops"]
    assert 0.4 < products / all_work < 1  # measured 0.59; at this width a step's elementwise work is not small


def test_by_hand():
    """1 MB split, 0.5 MB of a teacher, 0.1 MB whole."""
    model = Bytes(split=1_000_000, aux_state=500_000, whole=100_000)
    assert traffic(model, 8, 1) == {"gathered": 0, "summed within": 0, "summed across": 2 * 7 / 8 * 1_100_000}
    assert traffic(model, 1, 8) == {
        "gathered": 7 / 8 * 1_500_000,
        "summed within": 7 / 8 * 1_000_000,
        "summed across": 2 * 7 / 8 * 100_000,
    }
    mixed = {"gathered": 750_000, "summed within": 500_000, "summed across": 750_000 + 175_000}
    assert traffic(model, 4, 2) == mixed
    assert traffic(model, 4, 2, scatter="all-reduce") == mixed | {"summed within": 1_000_000}
