"""Where the arrays of a state live: rules over their paths, and what cannot be done with them."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from support.toys import CONFIGS
from training.test_step import rows
from training.toy import ToyObjective, toy_batches, toy_config, train

from jepa_speech.errors import UsageError
from jepa_speech.training.configfile import load_config
from jepa_speech.training.optim import OptimConfig, make_optimizer
from jepa_speech.training.run_json import claim_workdir
from jepa_speech.training.sharding import MeshConfig, array_sharding, by_rules, make_mesh, mesh_on_paper
from jepa_speech.training.state import abstract_state

P = jax.P
SHAPES = {
    "params/encoder/ff/up/kernel": (6, 8),
    "params/encoder/ff/up/bias": (8,),
    "aux_state/teacher/ff/up/kernel": (6, 8),
    "opt_state/1/mu/encoder/ff/up/kernel": (6, 8),
    "step": (),
}


def places(*rules: str, fsdp: int = 2) -> list:
    return [found.spec for found in by_rules(mesh_on_paper(MeshConfig(1, fsdp), fsdp), rules, SHAPES).values()]


def test_the_first_rule_that_fits_holds_and_vectors_are_copied():
    largest, rows_of = P(None, "fsdp"), P("fsdp", None)
    assert places(*MeshConfig.rules) == [largest, P(), largest, largest, P()]
    for auxiliary in ("aux_state", "slow"):  # the second is its name before December 2026
        assert places(f"{auxiliary}/*: copy", "*/up/*: 0") == [rows_of, P(), P(), rows_of, P()]
    assert places("params/*: -2", "*: largest") == [rows_of, P(), largest, largest, P()]
    assert places("params/*/kernel: -1") == [largest, P(), P(), P(), P()]  # what no rule fits is copied
    assert set(places(*MeshConfig.rules, fsdp=1)) == {P()}


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        (
            ("aux_state/*: 0",),
            r"'aux_state/\*: 0' fits aux_state/teacher/ff/up/kernel \(6, 8\), but mesh.fsdp = 4 does not divide",
        ),
        (("*: 2",), r"'\*: 2' fits params/encoder/ff/up/kernel \(6, 8\), but it has no axis 2"),
        (("params/*: -3",), "but it has no axis -3"),
        (("teacher/*: 0", "*: copy"), r"no array is left for 'teacher/\*: 0'; paths look like params/encoder/ff/up"),
        (("*: copy", "aux_state/*: 0"), r"no array is left for 'aux_state/\*: 0'"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_one_line(rules, line):
    with pytest.raises(UsageError, match=line) as error:
        places(*rules, fsdp=4)
    assert "mesh.rules" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["*: widest", "*", ": 0", "0", "", "*: 1.5"])
def test_a_rule_is_a_glob_and_an_axis(rule):
    with pytest.raises(
        UsageError, match=r"mesh.rules: .*; write GLOB: AXIS, where AXIS is a whole number, largest or copy"
    ):
        MeshConfig(rules=(rule,))


def test_rules_are_given_on_the_command_line(capsys):
    overrides = ["--config.mesh.rules=aux_state/*: copy,*/up/kernel: -1,*: largest"]
    config = load_config(str(CONFIGS / "gmm_jepa.py"), overrides)
    assert config.mesh.rules == ("aux_state/*: copy", "*/up/kernel: -1", "*: largest")
    assert load_config(str(CONFIGS / "base.py")).mesh == MeshConfig()
    assert capsys.readouterr().err == ""
    load_config(str(CONFIGS / "gmm_jepa.py"), ["--config.mesh.rules=slow/*: copy,*: largest"])
    assert "'slow/*: copy': slow/ is named aux_state/ now" in capsys.readouterr().err


def test_the_state_lives_where_the_rules_say():
    """On paper: as many devices as one likes. Momentum goes with its own path."""
    mesh = mesh_on_paper(MeshConfig(-1, 2), 64)
    assert mesh.shape == {"data": 32, "fsdp": 2}
    state = abstract_state(ToyObjective(), make_optimizer(OptimConfig()), 0, mesh, ("*/mu/*: 0", "params/*: -1"))
    assert state.params["in"]["kernel"].sharding == array_sharding(mesh, (2, 8))
    assert state.opt_state[1].mu["in"]["kernel"].sharding.spec == P("fsdp", None)
    assert state.aux_state["teacher"]["in"]["kernel"].sharding.spec == P()
    assert state.opt_state[1].mu["in"]["kernel"].sharding.shard_shape((2, 8)) == (1, 8)


def test_a_wrong_rule_ends_a_run_before_anything_is_compiled(tmp_path):
    config = toy_config() | {"mesh": {"data": 1, "fsdp": 4, "rules": ("*/kernel: 0",)}}
    with pytest.raises(UsageError, match=r"fits params/in/kernel \(2, 8\), but mesh.fsdp = 4 does not divide axis 0"):
        train(config, ToyObjective(), toy_batches(config), tmp_path)


def test_rules_change_where_arrays_live_and_nothing_else(tmp_path):
    """Losses and gradient norms to 1e-5: sums are taken in another order."""
    found = []
    for name, mesh in (("copied", {"data": 4, "fsdp": 1}), ("split", {"data": 2, "fsdp": 2, "rules": ("*/in/*: 0",)})):
        config = toy_config(steps=4) | {"mesh": mesh}
        config["data"]["buckets"] = (0.3,)
        train(config, ToyObjective(), toy_batches(config), tmp_path / name)
        found.append([[row["loss"], row["grad_norm"]] for row in rows(tmp_path / name)])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_run_goes_on_with_another_mesh_and_other_rules(tmp_path):
    config = toy_config()
    claim_workdir(tmp_path, config)
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    claim_workdir(tmp_path, config | {"mesh": {"data": 2, "fsdp": 2, "rules": ("*: 0",)}})


@dataclass(frozen=True)
class FakeTPU:
    """What jax asks of a device to place it in a mesh."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v6 lite"
    core_on_chip: int = 0
    process_index: int = 0


def fake_slices(count: int, side: int) -> list[FakeTPU]:
    places = [(number, x, y) for number in range(count) for y in range(side) for x in range(side)]
    return [FakeTPU(i, (x, y, 0), number) for i, (number, x, y) in enumerate(places)]


@pytest.mark.parametrize("slices", [1, 2])
def test_an_fsdp_group_is_half_a_row_of_one_tpu_slice(slices):
    """jax.make_mesh refuses both: half a row of 16 chips, and two slices."""
    mesh = make_mesh(MeshConfig(fsdp=8), fake_slices(slices, 16))
    assert mesh.shape == {"data": 32 * slices, "fsdp": 8}
    for group in mesh.devices:
        assert len({device.slice_index for device in group}) == 1
        assert len({device.coords[0] for device in group}) == 1 or len({device.coords[1] for device in group}) == 1


def test_an_fsdp_group_over_two_slices_is_refused():
    with pytest.raises(UsageError, match=r"mesh.fsdp = 32: .* one of the 2 slices: choose a divisor of 16, "):
        make_mesh(MeshConfig(fsdp=32), fake_slices(2, 4))
