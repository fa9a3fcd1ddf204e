"""Results that are read back: every field is checked, so that what is read can be compared, tabled and drawn."""

import copy
import json
from contextlib import suppress

import numpy as np
import pytest

from jepa_speech.errors import UsageError, UserError
from jepa_speech.probing import evaluate
from jepa_speech.probing.bootstrap import figure
from jepa_speech.probing.saved import read_results


def made():
    counts, random = np.array([[0, 1], [2, 2]]), np.random.default_rng(1)
    keys = ["a.wav", "b.wav"]

    def heads(*names):
        return {
            head: {"valid": 0.5, "figures": {name: figure(keys, counts) for name in names}}
            for head in ("layer 0", "weighted sum")
        }

    asr = {"figures": {"WER": "lower", "CER": "lower"}, "chosen": "weighted sum", "heads": heads("WER", "CER")}
    asr["heads"]["layer 0"]["valid"] = float("nan")  # valid has no word
    asr["heads"]["layer 0"]["figures"]["WER"] |= {"value": None, "low": None, "high": None}
    phones = {
        "figures": {"accuracy": "higher"},
        "chosen": "weighted sum",
        "heads": heads("accuracy"),
        "layer_weights": [0.25, 0.75],
        "curve": [[0, 0.1], [10, 0.6]],
        "chance": 0.2,
        "sizes": {"train": 3},
        "classes": ["A", "B"],
        "confusion": random.integers(0, 9, (2, 2)).tolist(),
    }
    return {"name": "one", "data": "d", "seed": 0, "recipe": {}, "tasks": {"phones": phones, "asr": asr}}


def places(value, path=()):
    """The path of every value in nested objects and lists."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def changed(results, path, new):
    results = copy.deepcopy(results)
    parent = results
    for key in path[:-1]:
        parent = parent[key]
    if new is KeyError:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return results


def used(results, compared=True):
    """Whatever is made of results but pictures; a comparison takes a while."""
    evaluate.text(evaluate.table([results]))
    for task in results["tasks"] if compared else ():
        with suppress(UserError):  # results without the counts of recordings
            evaluate.compare([results], [results], task)


def test_sound_results_come_back(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(made()))
    used(read_results(tmp_path / "r.json"))


@pytest.mark.parametrize("new", [KeyError, None, "x", [], {}, True, 7, [[1, 2], [3]]], ids=str)
def test_any_wrong_field_is_one_line_or_does_no_harm(tmp_path, new):
    path, whole, refused = tmp_path / "r.json", made(), 0
    for place in list(places(whole))[1:]:
        path.write_text(json.dumps(changed(whole, place, new)))
        try:
            found = read_results(path)
        except UsageError as error:
            assert str(error).startswith(f"{path}: not a results file") and "\n" not in str(error)
            refused += 1
        else:
            used(found, compared="counts" in place or "chosen" in place)
    assert refused > 20
