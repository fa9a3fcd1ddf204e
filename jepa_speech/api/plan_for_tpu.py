"""What a config's train step needs on a TPU slice, by the TPU's own compiler, without a TPU."""

from pathlib import Path
from typing import Any

from jepa_speech.costs.exchange import traffic
from jepa_speech.costs.speed import crop_samples, make_setting, rows_of
from jepa_speech.costs.step_on_paper import step_on_paper
from jepa_speech.costs.tpu_compiler import compiled_for_tpu, slice_devices, versions
from jepa_speech.local_paths import takes_local_paths
from jepa_speech.progress import say_if
from jepa_speech.settings.run_config import RunConfig
from jepa_speech.training.chips import chip_of
from jepa_speech.training.configfile import Overrides, run_config_of
from jepa_speech.wording import counted


@takes_local_paths
def plan_for_tpu(
    config: RunConfig | str | Path, topology: str, *, overrides: Overrides = (), progress: bool = False
) -> dict[str, Any]:
    """Compile the train step of a config for a TPU slice, with the batch of each of its buckets.

    Needs libtpu (the extra `tpu-plan`), but no TPU, store or anchor. Takes minutes for each bucket of a published size.

    Args:
        config, overrides: see `train`.
        topology: v5e:2x4, v5p:2x2x2, v6e:16x16, or several such slices, as 2xv5e:16x16.
        progress: show a line on stderr before each bucket is compiled.

    Returns a dict: `device_kind`, `devices`, `slices`, `mesh` ([data, fsdp]), `hbm_bytes` (of a device, by its data
    sheet), `versions`, `on_paper_GB` (the device's bytes as `plan` estimates them), `closed_form` (bytes that each
    device sends in a step, see `traffic`), and `runs`: for each bucket `seconds`, `rows`, and what `compiled_for_tpu`
    returns.

    Raises UsageError if an argument is wrong or the devices do not form the config's mesh, UserError without libtpu.
    """
    config, say = run_config_of(config, overrides), say_if(progress)
    setting = make_setting(config, slice_devices(topology))
    lengths = {seconds: crop_samples(setting, seconds) for seconds in sorted(config.data.buckets)}
    kind, mesh = setting.mesh.devices.flat[0].device_kind, setting.mesh
    slices = len({getattr(device, "slice_index", 0) for device in mesh.devices.flat})
    figures, model = step_on_paper(config, mesh.size)
    runs: list[dict[str, Any]] = []
    for seconds, samples in lengths.items():
        rows = rows_of(setting, seconds)
        say(f"{counted(rows, 'row')} of {seconds:g} s: compiling for {counted(mesh.size, 'device')}")
        runs.append({"seconds": seconds, "rows": rows} | compiled_for_tpu(setting, rows, samples))
    chip = chip_of(kind)
    return {
        "device_kind": kind,
        "devices": mesh.size,
        "slices": slices,
        "mesh": list(mesh.devices.shape),
        "hbm_bytes": chip.memory if chip else None,
        "versions": versions(),
        "on_paper_GB": figures["device_GB"],
        "closed_form": traffic(model, *mesh.devices.shape),
        "runs": runs,
    }
