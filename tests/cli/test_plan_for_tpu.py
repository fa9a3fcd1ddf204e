"""`jepa-speech plan --compile`: the report, by the CPU's compiler; and TPU's own, where libtpu is installed."""

import json
import os
import subprocess
import sys

import jax
import pytest

from jepa_speech import cli
from jepa_speech.api import plan_for_tpu
from jepa_speech.cli.plan_for_tpu import lines
from jepa_speech.costs import tpu_compiler
from jepa_speech.costs.largest_arrays import largest_arrays
from jepa_speech.training import compiled

PLAN = ["plan", "--config", "tiny", "--compile"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["v5e:2x4"], 1, "the TPU compiler (libtpu) is not installed: pip install --editable '.[tpu-plan]'"),
        (["v5e"], 2, "slice 'v5e': write it as v5e:2x4, v5p:2x2x2 or v6e:16x16; two slices as 2xv5e:16x16"),
        (["v5e:2x4", "--hours", "10"], 2, "--compile takes only --config, without --hours"),
        (["v5e:2x4", "--steps-per-second", "1"], 2, "--compile takes only --config, without --steps-per-second"),
    ],
)
def test_a_refusal_is_one_line(arguments, code, words, monkeypatch, capsys):
    monkeypatch.setattr(tpu_compiler.importlib.util, "find_spec", lambda name: None)
    assert cli.main([*PLAN, *arguments]) == code
    assert capsys.readouterr().err == f"jepa-speech plan: {words}\n"


def test_the_report_of_a_step_on_four_devices(monkeypatch, capsys, tmp_path):
    """With devices of a CPU in place of a slice's, all else is what runs for a TPU."""
    monkeypatch.setattr(plan_for_tpu, "slice_devices", lambda topology: jax.devices())
    monkeypatch.setattr(compiled, "TPU_OPTIONS", {})  # which a CPU's compiler refuses
    monkeypatch.setattr(plan_for_tpu, "versions", lambda: {"jax": "1.2", "libtpu": "3.4"})
    report = tmp_path / "plan.json"
    assert cli.main([*PLAN, "v5e:2x2", "--config.data.buckets=(0.5,)", "--json", str(report)]) == 0
    said, found = capsys.readouterr().out, json.loads(report.read_text(encoding="utf-8"))
    (run,) = found["runs"]
    assert found["devices"] == 4 and found["mesh"] == [4, 1] and run["rows"] % 4 == 0
    assert run["peak"] == run["arguments"] + run["outputs"] + run["temporaries"] - run["aliased"] > 0
    largest = run["largest_arrays"][0]["bytes"]
    assert 4 * run["rows"] // 4 * 8000 <= largest < run["temporaries"]  # float32 waves of this device, and more
    assert run["sent"]["all-reduce"] == pytest.approx(sum(found["closed_form"].values()), rel=0.02)
    assert run["sent"].keys() == {"all-reduce"}  # not the FFT's frames, which a CPU gathers (docs/cluster.md)
    assert "not in the closed form" not in said
    assert "tiny for v5e:2x2: 4 x cpu, jax 1.2, libtpu 3.4\nmesh: data 4 x fsdp 1; memory of a device, " in said
    assert f"{run['rows']} rows of 0.5 s, {run['rows'] // 4} per device: compiled in " in said


RESULTS = {"devices": 8, "slices": 1, "mesh": [8, 1], "hbm_bytes": 16e9, "closed_form": {"summed": 2e6}}
RUN = {"seconds": 15.0, "rows": 32, "compile_seconds": 90.4, "compile_cpu_seconds": 150.2}


def test_a_step_that_does_not_fit_says_by_how_much():
    needed, most = tpu_compiler.exceeded(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (37.29G) exceeds "
        "available HBM (15.75G)."
    )
    first, second = lines(RUN | {"needed_bytes": needed, "memory_bytes": most}, RESULTS)
    assert first == "32 rows of 15 s, 4 per device: compiled in 90 s, 150 s of processor time"
    assert second.startswith("  does not fit: 40.04 of 16.91 GB a device: lower data.batch_seconds, ")
    assert tpu_compiler.exceeded("Used 20.50G of 15.75G hbm.") == (20.5 * 2**30, 15.75 * 2**30)
    assert tpu_compiler.exceeded("RESOURCE_EXHAUSTED: of another kind") is None


def test_an_activation_that_is_gathered_is_named():
    gathered = {"kind": "all-gather", "payload": 8_000_000, "sent": 7e6, "times": 1, "source": "jit(step)/fft"}
    summed = {"kind": "all-reduce", "payload": 1_000_000, "sent": 2e6, "times": 1, "source": ""}
    sizes = {"arguments": 1e9, "outputs": 1e9, "aliased": 9e8, "temporaries": 2e9, "peak": 3.1e9, "program_bytes": 5e6}
    run = RUN | sizes | {"flops": 3e12, "flops_xla": 1e12, "custom_calls": {"EighTpu": 1}, "estimate_seconds": None}
    run |= {"collectives": [summed, gathered], "sent": {"all-gather": 7e6, "all-reduce": 2e6}}
    array = {
        "shape": "f32[32,6002,512]",
        "bytes": 393347072,
        "times": 2,
        "operation": "copy",
        "source": "jit(step)/mul",
    }
    run["largest_arrays"] = [array]
    said = list(lines(run, RESULTS))
    assert "    393 MB, 2 times: f32[32,6002,512], jit(step)/mul" in said
    assert "  sent by each device: 9.00 MB per step; by the closed form 2.00 MB" in said
    assert said[-1] == "    not in the closed form: all-gather of 8.00 MB, jit(step)/fft"
    assert any("minus one second: EighTpu 1" in line for line in said)
    for other in ({"mesh": [2, 4]}, {"slices": 2}):
        assert not any("not in the closed form" in line for line in lines(run, RESULTS | other))
    assert "    without what is sent between slices, which is not counted" in list(lines(run, RESULTS | {"slices": 2}))
    timed = lines(run | {"custom_calls": {}, "estimate_seconds": 0.0125}, RESULTS)
    assert any("time by the compiler: 12.50 ms" in line for line in timed)


PROGRAM = """HloModule jit_step

%inside (p: f32[9000]) -> f32[9000] {
  ROOT %unseen = f32[9000]{0} add(%p, %p)
}

ENTRY %main (p: f32[10]) -> f32[10] {
  %p = f32[7000]{0} parameter(0)
  %first = bf16[32,100]{1,0:T(8,128)(2,1)} fusion(%p), kind=kLoop, calls=%inside, metadata={op_name="jit(step)/mul"}
  %second = bf16[32,100]{1,0} fusion(%p), kind=kLoop, calls=%inside, metadata={op_name="jit(step)/mul"}
  %near = f32[8000]{0:T(1024)S(1)} copy(%p), metadata={op_name="jit(step)/near"}
  %begun = (f32[8000]{0:T(1024)S(1)}, f32[8000]{0}, u32[]{:S(2)}) copy-start(%p)
  %done = f32[8000]{0:T(1024)S(1)} copy-done(%begun)
  %back = (f32[50]{0}, f32[50]{0:S(1)}, u32[]{:S(2)}) copy-start(%near)
  ROOT %both = (s32[4]{0}, f32[10]{0}) sort(%first, %second)
}
"""


def test_the_largest_arrays_of_a_program():
    found = largest_arrays(PROGRAM)
    assert [(a["shape"], a["bytes"], a["times"], a["operation"], a["source"]) for a in found] == [
        ("bf16[32,100]", 6400, 2, "fusion", "jit(step)/mul"),
        ("f32[50]", 200, 1, "copy-start", ""),
        ("f32[10]", 40, 1, "sort", ""),
        ("s32[4]", 16, 1, "sort", ""),
    ]
    assert largest_arrays(PROGRAM, 1) == found[:1]


@pytest.mark.slow
def test_smoke_compiles_for_a_tpu(tmp_path):
    pytest.importorskip("libtpu", reason="libtpu, of the extra [tpu-plan], is not installed")
    report = tmp_path / "plan.json"
    command = [sys.executable, "-m", "jepa_speech", "plan", "--config", "smoke", "--compile", "v5e:2x4"]
    without = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # of pretended devices
    subprocess.run([*command, "--config.data.buckets=(4.0,)", "--json", report], check=True, env=without)
    found = json.loads(report.read_text(encoding="utf-8"))
    (run,) = found["runs"]
    assert (found["device_kind"], found["devices"], found["hbm_bytes"]) == ("TPU v5 lite", 8, 16e9)
    assert 0 < run["peak"] < found["hbm_bytes"] and run["program_bytes"] > 0
    assert run["sent"].keys() == {"all-reduce"}  # no activation is gathered
    assert run["sent"]["all-reduce"] == pytest.approx(sum(found["closed_form"].values()), rel=0.02)
    assert not any("callback" in name for name in run["custom_calls"])
