"""Estimate what a step of configs/gmm_jepa.py sends between 8, 64 and 512 chips: the table of docs/cluster.md.

    python benchmarks/collectives.py > benchmarks/collectives.md

Bytes are computed by the closed form that tests/training/test_collectives.py compares with compiled modules of 8
devices, seconds from the vendors' figures for links and peak (jepa_speech/training/chips.py). Nothing was measured on
such chips.
"""

from jepa_speech.costs.exchange import MFU, exchange_seconds, traffic
from jepa_speech.costs.step_on_paper import step_on_paper
from jepa_speech.training.chips import CHIPS
from jepa_speech.training.configfile import load_config

AUDIO = 60.0  # seconds in a step, for each chip
SHOWN = ("v5e", "h100")


def table() -> list[str]:
    """Markdown: a line for each number of chips and mesh."""
    config = load_config("configs/gmm_jepa.py", [f"--config.data.batch_seconds={AUDIO}", "--config.mesh.fsdp=8"])
    figures, split = step_on_paper(config, 8)
    copied = split._replace(split=0, aux_state=0, whole=split.split + split.whole)
    flops = 1e9 * figures["GFLOP_per_padded_audio_s"] * AUDIO  # of a chip
    lines = [
        f"{figures['parameters_M']:.1f} M parameters, {figures['GFLOP_per_padded_audio_s']:.1f} GFLOP per second of "
        f"audio, {AUDIO:g} s of audio per chip and step, {MFU:.0%} of the peak:",
        "",
        "| chips | data x fsdp | gathered, MB | gradients, MB | "
        + " | ".join(f"{name}: work, ms | exchange, ms | no overlap | full" for name in SHOWN)
        + " |",
        "|---:|---|---:|---:|" + "---:|---:|---:|---:|" * len(SHOWN),
    ]
    for chips in (8, 64, 512):
        for fsdp in sorted({1, 8, chips}):
            data, model = chips // fsdp, split if fsdp > 1 else copied
            sent = traffic(model, data, fsdp)
            cells = [chips, f"{data} x {fsdp}", f"{sent['gathered'] / 1e6:.0f}"]
            cells.append(f"{(sent['summed within'] + sent['summed across']) / 1e6:.0f}")
            for name in SHOWN:
                work = flops / (CHIPS[name].flops * MFU)
                exchange = exchange_seconds(model, data, fsdp, CHIPS[name])
                cells += [f"{1e3 * work:.1f}", f"{1e3 * exchange:.1f}"]
                cells += [f"{work / (work + exchange):.0%}", f"{work / max(work, exchange):.0%}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
