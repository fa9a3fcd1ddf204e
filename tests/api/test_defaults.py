"""A function of the API takes the options of its verb, under their names and with their defaults."""

import argparse
from inspect import Parameter, signature

import pytest

import jepa_speech
from jepa_speech import cli

# Verb (and kind): its function, and the options that the function does not take.
FUNCTIONS = {
    "analyze": ("analyze", {"store"}),
    "bench data": ("bench_data", {"store"}),
    "bench step": ("bench_step", set()),
    "compare": ("compare", set()),
    "corpus": ("list_corpus", set()),
    "evaluate": ("evaluate", {"store"}),
    "fit gmm": ("fit_gmm", {"curve", "store"}),
    "fit kmeans": ("fit_kmeans", {"curve", "store"}),
    "goodput": ("goodput", set()),
    "demo": ("demo", set()),
    "embed": ("embed", set()),
    "export hf": ("export_hf", set()),
    "export onnx": ("export_onnx", set()),
    "export s3prl": ("export_s3prl", set()),
    "export stablehlo": ("export_stablehlo", set()),
    "import hf": ("import_hf", set()),
    "inspect": ("inspect", {"stores", "merge", "out", "max_reject_fraction"}),
    "label": ("label", {"store", "cluster", "parts"}),
    "prepare": ("prepare", {"check", "cluster", "parts"}),
    "plan": ("plan", {"topology"}),
    "plan --compile": (
        "plan_for_tpu",
        {"hours", "devices", "hosts", "codec", "chip", "mfu", "steps_per_second", "recording_seconds"},
    ),
    "probe": ("probe", set()),
    "train": ("train", set()),
    "prepare --check": (
        "check_inputs",
        {"check", "out", "codec", "shard_mb", "part", "workers", "max_reject_fraction", "cluster", "parts"},
    ),
    "transcribe": ("transcribe", set()),
}
# Parameters that are no options: bars, what is called with each result, and what a verb takes under another name.
OWN = {"progress", "each", "store", "full", "overrides"}


def options(verb: str) -> dict[str, argparse.Action]:
    """The options of a verb or a kind of it, by the names of their values."""
    words = [word for word in verb.split() if not word.startswith("-")]
    parser = cli.parser(words[:1])
    for word in words:
        kinds = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = kinds.choices[word]
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]  # without older names
    for action in shown:
        action.default = parser.get_default(action.dest)
    return {action.dest: action for action in shown if action.dest not in ("help", "json")}


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_function_has_the_options_and_defaults_of_its_verb(verb):
    name, left_out = FUNCTIONS[verb]
    parameters, there = signature(getattr(jepa_speech, name)).parameters, options(verb)
    assert left_out <= there.keys()
    assert parameters.keys() - OWN == there.keys() - left_out
    for parameter in parameters.keys() - OWN:
        default, action = parameters[parameter].default, there[parameter]
        if default is Parameter.empty:
            assert action.required or action.default is None, parameter  # `--check` needs no --out
        else:
            assert default == action.default and type(default) is type(action.default), parameter
    assert all(parameters[word].kind == Parameter.KEYWORD_ONLY for word in parameters if word in OWN - {"store"})
