"""`jepa-speech plan`: estimate what a corpus and a run will cost, before anything is copied or paid for."""

import argparse
from collections.abc import Mapping
from typing import Any

from jepa_speech.api.plan import DEVICES_PER_HOST, plan
from jepa_speech.cli import plan_for_tpu
from jepa_speech.cli.commands import arguments
from jepa_speech.costs.corpus_on_paper import CONSTANTS
from jepa_speech.costs.exchange import MFU
from jepa_speech.errors import UsageError
from jepa_speech.ingest.audio import CODECS
from jepa_speech.local_paths import local_path
from jepa_speech.training.chips import CHIPS
from jepa_speech.wording import counted

HELP = "estimate, without running: bytes, passes and read rates of a corpus; memory, work and days of a run"
EXAMPLE = "jepa-speech plan --config configs/gmm_jepa.py --hours 100000 --devices 64 --chip v5e"
MORE_ROOM = "raise mesh.fsdp or train.accumulate, set encoder.remat = True, or take more devices"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=local_path,
        required=True,
        metavar="FILE[:VARIANT]",
        help="such as configs/gmm_jepa.py, or gmm_jepa for the package's own",
    )
    parser.add_argument("--hours", type=float, metavar="H", help="of audio in the corpus")
    parser.add_argument("--devices", type=int, metavar="D", help="accelerators, over all hosts")
    parser.add_argument("--hosts", type=int, metavar="N", help=f"default: one for {DEVICES_PER_HOST} devices")
    parser.add_argument("--codec", choices=CODECS, default="flac")
    parser.add_argument("--chip", choices=CHIPS, help="what the devices are: adds days and communication time")
    parser.add_argument(
        "--mfu", type=float, default=MFU, help=f"share of the chip's peak that is reached (default: {MFU}, assumed)"
    )
    parser.add_argument(
        "--steps-per-second", type=float, metavar="R", help="measured steps per second (default: as --chip makes, or 1)"
    )
    parser.add_argument(
        "--recording-seconds",
        type=float,
        default=CONSTANTS["recording"].value,
        metavar="S",
        help=f"mean length of a recording (default: {CONSTANTS['recording'].value}, as in LibriSpeech)",
    )
    parser.add_argument(
        "--compile",
        dest="topology",
        metavar="SLICE",
        help="in place of all estimates: compile the step for TPUs that need not be there, such as v5e:2x4, v6e:16x16 "
        "or 2xv5e:16x16; takes only --config and needs libtpu (the extra tpu-plan)",
    )
    parser.description = f"{parser.description}; --config.KEY=VALUE changes a key of the config"


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.topology:
        others = ("hours", "devices", "hosts", "chip", "steps_per_second")
        if given := [name for name in others if getattr(options, name) is not None]:
            raise UsageError(f"--compile takes only --config, without --{given[0].replace('_', '-')}")
        return plan_for_tpu.run(options)
    if options.hours is None or options.devices is None:
        raise UsageError("--hours and --devices are needed, or --compile SLICE instead of them")
    results = plan(**arguments(options, plan))
    figures = {name: value for name, value in results.items() if name not in ("hosts", "assumed", "constants")}
    names = list(figures)
    of_corpus = names.index("steps_per_second") + 1  # the figures of a step follow
    place = f"{counted(options.devices, 'device')} on {counted(results['hosts'], 'host')}"
    print(f"{options.config}, {options.hours:g} h, {place}, {options.codec}")
    show({name: figures[name] for name in names[:of_corpus]})
    chip = f"{options.chip} at {options.mfu:.0%} of its peak (assumed)" if options.chip else "devices"
    print(f"a step, by the shapes of its arrays, on {options.devices} {chip}:")
    show({name: figures[name] for name in names[of_corpus:]})
    if assumed := results["assumed"]:
        print(f"assumed of the anchor: {', '.join(f'{key} {value}' for key, value in assumed.items())}")
    if options.chip and figures["device_GB"] * 1e9 > CHIPS[options.chip].memory:
        print(f"more than the {CHIPS[options.chip].memory / 1e9:g} GB of a {options.chip}: {MORE_ROOM}")
    print("computed from these measurements:")
    for name, constant in CONSTANTS.items():
        print(f"  {name:<14}{constant.value:>10g} {constant.unit} ({constant.source})")
    return results


def show(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(
            f"  {name.replace('_', ' '):<34}{value:>14,.{0 if value >= 100 else 2 if value >= 1 or not value else 4}f}"
        )
