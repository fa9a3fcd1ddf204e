"""What a step sends, read from the compiled module of a real objective on 8 devices, against the closed form.

Neither the batch nor the model's width stands in the closed form but through the parameters: an activation that is
exchanged would show.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jepa_speech.costs.collectives import Collective, collectives, sent_by_kind
from jepa_speech.costs.exchange import Bytes, traffic

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


MODULE = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%turn (p: (s32[], f32[256])) -> (s32[], f32[256]) {
  %piece = f32[128]{0} reduce-scatter(%x), channel_id=4, replica_groups=[4,2]<=[8], dimensions={0}, to_apply=%add
  ROOT %out = (s32[], f32[256]) tuple(%i, %piece)
}

%more (p: (s32[], f32[256])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%branch (p: f32[100]) -> f32[100] {
  ROOT %taken = bf16[100]{0} all-to-all(%p), replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'a'}
}

%wrapped (p: f32[4]) -> f32[4] {
  ROOT %sent = f32[4]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}
}

ENTRY %main (p: f32[10]) -> f32[10] {
  %pair = (f32[10,3]{1,0:T(8,128)}, /*index=1*/bf16[6]{0}) all-reduce(%p, %q), replica_groups={{0,1,2,3},{4,5,6,7}}, \
use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(step)/dot" stack_frame_id=3}
  %begun = (f32[8], f32[64]) all-gather-start(%p), replica_groups={}, dimensions={0}
  %ended = f32[64] all-gather-done(%begun)
  %whole = s8[80]{0} all-gather(%p), replica_groups=mesh['a'=2,'b'=4] {'b':(1)2, 'a'}, dimensions={0}
  %known = (s32[], f32[256]) while(%t), condition=%more, body=%turn, backend_config={"known_trip_count":{"n":"12"}}
  %unknown = (s32[], f32[256]) while(%t), condition=%more, body=%turn
  %either = f32[100] conditional(%i, %p, %p), branch_computations={%branch, %add}
  %async = ((f32[4]), f32[4]) async-start(%p), calls=%wrapped
  ROOT %done = f32[4] async-done(%async), calls=%wrapped
}
"""


def test_collectives_of_a_module():
    found = {c.name if not c.inside else f"{c.inside[0]}/{c.name}": c for c in collectives(MODULE)}
    assert {name: (c.kind, c.payload, c.group, c.times) for name, c in found.items()} == {
        "pair": ("all-reduce", 132, 4, 1),
        "begun": ("all-gather", 256, 8, 1),
        "whole": ("all-gather", 80, 4, 1),
        "piece": ("reduce-scatter", 1024, 2, 12),
        "unknown/piece": ("reduce-scatter", 1024, 2, 1),
        "either/taken": ("all-to-all", 200, 2, 1),
        "sent": ("collective-permute", 16, 2, 1),
    }
    assert found["pair"].source == "jit(step)/dot"
    assert sent_by_kind(list(found.values())) == {
        "all-reduce": 2 * 3 / 4 * 132,
        "all-gather": 7 / 8 * 256 + 3 / 4 * 80,
        "reduce-scatter": 13 * 512,
        "all-to-all": 100,
        "collective-permute": 16,
    }


def test_the_steps_of_a_tpus_collective_are_one():
    """As libtpu 0.0.42.1 writes a gather that overlaps with other work."""
    step = (
        "  %gathered.{} = bf16[8,1024]{{1,0}} all-gather(%p), channel_id={}, replica_groups=[2,4]<=[8], "
        'dimensions={{1}}, frontend_attributes={{chain_id="0"}}'
    )
    steps = [step.format(number, channel) for number, channel in enumerate((16, 16, 17))]
    (first, second) = collectives("\n".join(["ENTRY %main () -> f32[] {", *steps, "}"]))
    assert (first.name, first.payload, second.name) == ("gathered.0", 16384, "gathered.2")


def test_unknown_replica_groups_are_refused():
    with pytest.raises(ValueError, match="replica groups that cannot be read: %x = "):
        collectives("ENTRY %main () -> f32[] {\n  %x = f32[] all-reduce(%p), replica_groups=<new>\n}\n")
