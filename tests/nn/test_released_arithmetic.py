"""The released models against golden arrays: ours (committed) and, where at hand, those of the released code."""

from pathlib import Path

import numpy as np
import pytest
from golden import make_released
from support import released

from jepa_speech.errors import UsageError, UserError

GOLDEN = Path(make_released.__file__).parent
VARIANTS = list(make_released.VARIANTS)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def state_dict(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("sd/"): value for name, value in arrays.items() if name.startswith("sd/")}


def assert_equals_golden(golden: dict[str, np.ndarray]) -> None:
    out = released.from_state_dict(state_dict(golden)).forward(golden["wav"], golden["mask_keep"])
    compared = set()
    for name, value in out.items():
        if f"out/{name}" in golden:
            np.testing.assert_allclose(value, golden[f"out/{name}"], rtol=0, atol=1e-4, err_msg=name)
            compared.add(name)
    assert compared >= {"z_agg", "z_pred", "cluster_logits", "layer1", "layer2"}

    gmm = [golden[f"gmm/{name}"] for name in ("means", "covariances", "weights", "x")]
    q = released.posteriors(*gmm)
    np.testing.assert_allclose(q, golden["gmm/posteriors"], rtol=0, atol=1e-4)
    terms = released.losses(out["z_pred"], golden["z_target"], out["cluster_logits"], q, golden["mask_keep"])
    for name, value in terms.items():
        np.testing.assert_allclose(value, golden[f"loss/{name}"], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_the_float64_reference(variant: str) -> None:
    assert_equals_golden(read(GOLDEN / f"released_{variant}.npz"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_the_released_code(variant: str, speech_data: Path) -> None:
    assert_equals_golden(read(speech_data.parent / "golden" / f"released_{variant}.npz"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_generator_still_writes_the_committed_arrays(variant: str) -> None:
    committed = read(GOLDEN / f"released_{variant}.npz")
    made = make_released.golden(*make_released.VARIANTS[variant])
    assert made.keys() == committed.keys()
    for name, value in made.items():
        np.testing.assert_allclose(committed[name], value, rtol=0, atol=1e-6, err_msg=name)


def without_relative_positions(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in arrays.items() if "rel_pos_bias" not in name}


def test_heads_are_asked_for_where_no_shape_shows_them() -> None:
    arrays = without_relative_positions(state_dict(read(GOLDEN / "released_conformer.npz")))
    with pytest.raises(UsageError, match="heads="):
        released.from_state_dict(arrays)
    assert "positions" not in released.from_state_dict(arrays, heads=2).params["encoder"]


def test_another_state_dict_is_refused_by_the_parameter_at_fault() -> None:
    arrays = state_dict(read(GOLDEN / "released_conformer.npz"))
    with pytest.raises(UserError, match=r"lacks .*proj\.bias"):
        released.from_state_dict({name: value for name, value in arrays.items() if name != "proj.bias"})
    with pytest.raises(UserError, match=r"decoder\.weight, unknown"):
        released.from_state_dict(arrays | {"decoder.weight": np.zeros(3)})
    with pytest.raises(UserError, match=r"mask_token has shape \(5,\)"):
        released.from_state_dict(arrays | {"mask_token": np.zeros(5)})


def test_a_mask_of_another_length_is_refused() -> None:
    golden = read(GOLDEN / "released_conformer.npz")
    with pytest.raises(UsageError, match=r"mask_keep is \(2, 8\)"):
        released.from_state_dict(state_dict(golden)).forward(golden["wav"], golden["mask_keep"][:, 1:])


def test_losses_count_hidden_frames_only() -> None:
    target = np.zeros((1, 3, 4), np.float32)
    predicted = target + np.array([1.0, 2.0, 3.0, 4.0], np.float32)  # error t² at frame t - 1
    logits = np.zeros((1, 4, 2), np.float32)
    q = np.array([[1, 0], [0.5, 0.5], [0.5, 0.5], [0, 1]], np.float32)
    terms = released.losses(predicted, target, logits, q, np.array([[0, 1, 0, 1]]))
    np.testing.assert_allclose(terms["jepa"], (1 + 9) / 2, rtol=1e-6)
    np.testing.assert_allclose(terms["cluster"], np.log(2) / 2, rtol=1e-6)
    nothing = released.losses(predicted, target, logits, q, np.ones((1, 4)))
    assert nothing["jepa"] == 0
    assert nothing["cluster"] == 0
