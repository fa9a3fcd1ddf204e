"""`jepa-speech plan --compile SLICE`: the TPU compiler's figures of a config's train step."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jepa_speech.api.plan_for_tpu import plan_for_tpu
from jepa_speech.cli.commands import arguments
from jepa_speech.costs.collectives import beyond_closed_form
from jepa_speech.wording import counted

SHOWN = 5  # of those that are not expected
LENGTH = 80  # of the name of an operation, which may list hundreds


def run(options: argparse.Namespace) -> dict[str, Any]:
    jax.config.update("jax_platforms", "cpu")  # else jax would start a TPU or GPU, which nothing here uses
    results = plan_for_tpu(**arguments(options, plan_for_tpu), progress=True)
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    data, fsdp = results["mesh"]
    print(f"{options.config} for {options.topology}: {results['devices']} x {results['device_kind']}, {versions}")
    on_paper = f"memory of a device, estimated without compiling: {results['on_paper_GB']:.2f} GB in the longest bucket"
    print(f"mesh: data {data} x fsdp {fsdp}; {on_paper}")
    for found in results["runs"]:
        for line in lines(found, results):
            print(line)
    return results


def lines(found: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[str]:
    """What was found of one bucket, to print."""
    rows, devices = found["rows"], results["devices"]
    compiled = f"compiled in {found['compile_seconds']:.0f} s, {found['compile_cpu_seconds']:.0f} s of processor time"
    yield f"{counted(rows, 'row')} of {found['seconds']:g} s, {rows // devices} per device: {compiled}"
    if "needed_bytes" in found:
        yield (
            f"  does not fit: {found['needed_bytes'] / 1e9:.2f} of {found['memory_bytes'] / 1e9:.2f} GB a device: "
            "lower data.batch_seconds, raise mesh.fsdp or train.accumulate, or set encoder.remat = True"
        )
        return
    hbm = f" of {results['hbm_bytes'] / 1e9:g} GB" if results["hbm_bytes"] else ""
    yield (
        f"  memory of a device: {found['peak'] / 1e9:.2f} GB{hbm} (arguments {found['arguments'] / 1e9:.2f}, output "
        f"{found['outputs'] / 1e9:.2f}, of which {found['aliased'] / 1e9:.2f} in place of arguments, temporaries "
        f"{found['temporaries'] / 1e9:.2f})"
    )
    yield "  largest arrays outside loops, not all of them alive at once:"
    for array in found["largest_arrays"]:
        source = array["source"][:LENGTH] or array["operation"]
        yield f"    {array['bytes'] / 1e6:.3g} MB, {array['times']} times: {array['shape']}, {source}"
    yield f"  program: {found['program_bytes'] / 1e6:.1f} MB"
    yield f"  products: {found['flops'] / 1e12:.3g} TFLOP per step, on all devices together"
    if found["flops_xla"] is not None:
        yield f"  all operations of a device, by the compiler: {found['flops_xla'] / 1e12:.3g} TFLOP"
    if found["estimate_seconds"] is None:
        calls = ", ".join(f"{name} {count}" for name, count in sorted(found["custom_calls"].items()))
        yield f"  time by the compiler: none; it counts each of these calls as minus one second: {calls}"
    else:
        yield f"  time by the compiler: {1e3 * found['estimate_seconds']:.2f} ms, an estimate that no TPU confirmed"
    sent, closed = (sum(figures.values()) for figures in (found["sent"], results["closed_form"]))
    yield f"  sent by each device: {sent / 1e6:.2f} MB per step; by the closed form {closed / 1e6:.2f} MB"
    if results["slices"] > 1:
        yield "    without what is sent between slices, which is not counted"
    for kind, sent in found["sent"].items():
        number = sum(c["times"] for c in found["collectives"] if c["kind"] == kind)
        yield f"    {kind}: {number}, {sent / 1e6:.2f} MB"
    for c in beyond_closed_form(found["collectives"], results["mesh"], results["slices"])[:SHOWN]:
        source = c["source"][:LENGTH] or c["name"]
        yield f"    not in the closed form: {c['kind']} of {c['payload'] / 1e6:.2f} MB, {source}"
