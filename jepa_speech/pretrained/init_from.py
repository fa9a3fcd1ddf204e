"""The weights that training starts from (config key `init_from`)."""

from typing import Any

from jepa_speech.huggingface.imported import read_imported
from jepa_speech.huggingface.weights import has_weights
from jepa_speech.objectives import parsed
from jepa_speech.objectives.ctc import CtcConfig, vocabulary_of
from jepa_speech.text.tokens import Tokens
from jepa_speech.training.checkpoint import by_path, read_weights
from jepa_speech.training.checkpoint_steps import located
from jepa_speech.training.run_json import config_of_a_run


def weights_of(
    source: str, vocabulary: Tokens | None = None, adapter: tuple[Any, ...] | None = None
) -> tuple[int, dict[str, Any]]:
    """Returns the step and the arrays by path of a checkpoint.

    source: a run, or a folder that transformers wrote (step 0).
    vocabulary, adapter: those of the new model, if it writes texts (`CtcConfig.adapter`). The CTC layer of a run with
    another vocabulary or adapter is left out.
    """
    if not has_weights(source):
        step, arrays = read_weights(source)
        theirs = parsed(config_of_a_run(located(source)[0] / "config.json"))
        objective = theirs.objective
        if (
            vocabulary
            and isinstance(objective, CtcConfig)
            and (vocabulary_of(theirs), objective.adapter) != (vocabulary, adapter)
        ):
            arrays = {name: x for name, x in arrays.items() if not name.startswith("params/head/")}
        return step, arrays
    _, imported = read_imported(source)
    return 0, by_path({"params": {"encoder": imported.encoder} | imported.extra})
