"""Load a trained encoder from a run folder or a folder of transformers, without training data or config file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soxr

from jepa_speech import checked
from jepa_speech.cloud.arguments import takes_buckets
from jepa_speech.errors import UsageError, UserError
from jepa_speech.features.grid import SAMPLE_RATE
from jepa_speech.huggingface.imported import imported_model
from jepa_speech.objective_parts.contract import HasClusters, HasTexts, Objective, Tree
from jepa_speech.objectives import build, parsed
from jepa_speech.pretrained.from_bucket import copied_model
from jepa_speech.pretrained.windows import Waves, layers_of, rows_of
from jepa_speech.settings.run_config import RunConfig, plain
from jepa_speech.text.beam import WordBeam
from jepa_speech.training.checkpoint import arranged, read_weights
from jepa_speech.training.checkpoint_steps import Step, at_step, best_figure, located, was_kept
from jepa_speech.training.compiled import compiler_options
from jepa_speech.training.run_json import config_of_a_run
from jepa_speech.training.state import drawn_by_kernel
from jepa_speech.wording import quoted

# Keys of a run's config that the objective does not check: the type, and the default of a missing key (None: an error).
READ = {
    "seed": (int, None),
    "init_from": (str, ""),
    "train.steps": (int, None),
    "train.best": (str, ""),
    "data.store": (str, ""),
    "inputs.store": (str, ""),
    "inputs.anchor": (str, ""),
    "anchor.path": (str, ""),
    "imported.folder": (str, ""),
    "imported.model_type": (str, ""),
    "imported.no_texts": (str, ""),
}


@dataclass(frozen=True)
class Representation:
    """layers: one (T, D) float32 array per layer; the first is the input of the first block."""

    layers: list[np.ndarray]
    frame_rate: float


@dataclass(frozen=True)
class Pretrained:
    """An objective with its parameters.

    config: the run's; for a folder of transformers, the config that a run of it would have.
    step: the checkpoint's; 0 for a folder of transformers.
    best: the figure by which this checkpoint was chosen as the best, else "".
    written: the contents of config.json, part of the fingerprint.
    """

    config: RunConfig
    objective: Objective
    params: Tree
    aux_state: Tree
    step: int
    best: str = ""
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cluster_head(self) -> HasClusters | None:
        """The objective if it trained a head over an anchor's clusters, else None (no anchor, or imported)."""
        trained = "head" in self.params and not self.config.imported
        return self.objective if trained and isinstance(self.objective, HasClusters) else None

    def represent(self, wave: np.ndarray, sample_rate: int) -> Representation:
        """Returns the layers of one recording of any level, (S,) samples.

        A recording of up to 60 s is encoded whole. A longer one is encoded in windows of 60 s that overlap by 10 s.
        Each window is standardised separately, and each frame is taken from the window whose middle is nearest.
        Raises UserError for a wave that is shorter than the model's shortest input, not one-dimensional, or not finite.
        """
        return self._represented([self._checked(wave, sample_rate)])[0]

    def represent_batch(
        self, waves: Waves, sample_rate: int, lengths: Sequence[int] | np.ndarray | None = None
    ) -> list[Representation]:
        """Returns the layers of several recordings, equal to those of `represent` within 1e-5.

        waves: a list of (S,) arrays, or an array (B, S). lengths: the valid samples of each, at sample_rate (default:
        all). Waves of similar length are encoded together, in at most 15 shapes.
        Raises UserError, naming the wave, for a wave that `represent` refuses, for an empty batch, and for lengths that
        do not match the waves.
        """
        rows = rows_of(waves, lengths)
        checked = []
        for i, wave in enumerate(rows):
            try:
                checked.append(self._checked(wave, sample_rate))
            except UserError as error:
                raise UserError(f"wave {i} of 0 to {len(rows) - 1}: {error}") from error
        return self._represented(checked)

    def _represented(self, waves: Sequence[np.ndarray]) -> list[Representation]:
        return [Representation(layers, self.objective.frame_rate) for layers in self._layers(self._represent, waves)]

    def cluster_probs(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        """Returns the cluster head's probabilities without a mask: (T, K)."""
        return self._layers(self._clusters, [self._checked(wave, sample_rate)])[0][0]

    def masked_cluster_probs(self, wave: np.ndarray, sample_rate: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cluster head's probabilities under a mask, (T, K), and the mask, (T,), True at masked frames.

        The mask is drawn from `seed` by the run's mask config. Dropout and other randomness of training are off.
        Raises UsageError if masked frames are filled with noise, which only training draws (`mask.fill` is `random` or
        `noise`).
        """
        mask = self._heads.mask
        if mask.drawn:
            raise UsageError(
                f"mask.fill = {mask.fill}: only training draws the noise at masked frames; use a run with "
                "mask.fill = learned"
            )
        function = partial(self._masked_clusters, jax.random.key(seed))
        probs, masked = self._layers(function, [self._checked(wave, sample_rate)])[0]
        return probs, masked > 0

    def transcribe(self, wave: np.ndarray, sample_rate: int, search: WordBeam | None = None) -> str:
        """Returns the text of a recording, from the likeliest token of each frame or from a search.

        wave: as for `represent`. search: a beam search with a language model, for `objective.vocabulary`.
        Case and spaces are those of the vocabulary; error rates are counted on `text.vocabulary.normal` of the text.
        Raises UserError if the run was not fine-tuned with CTC.
        """
        decode = search or self.writer.vocabulary.greedy
        rate = self.writer.emission_rate
        emissions = self._layers(self._emissions, [self._checked(wave, sample_rate)], rate)[0][0]  # (T, V)
        return decode(emissions)

    @property
    def writer(self) -> HasTexts:
        """The objective, if it writes texts. Raises UserError if the run was not fine-tuned with CTC."""
        if isinstance(self.objective, HasTexts):
            return self.objective
        if self.config.imported and self.config.imported.no_texts:
            raise UserError(self.config.imported.no_texts)
        name = self.config.objective.name
        raise UserError(f"a run of the objective {name} writes no texts: fine-tune it with configs/finetune_ctc.py")

    @cached_property
    def _emissions(self) -> Any:
        return jax.jit(self.writer.emissions, compiler_options=compiler_options())

    @cached_property
    def _represent(self) -> Any:
        return jax.jit(self.objective.represent, compiler_options=compiler_options())

    @cached_property
    def _clusters(self) -> Any:
        return jax.jit(self._heads.clusters, compiler_options=compiler_options())

    @property
    def _heads(self) -> HasClusters:
        """The objective, if it has heads over clusters or codes, trained or not."""
        if isinstance(self.objective, HasClusters):
            return self.objective
        raise UserError(f"a run of the objective {self.config.objective.name} has no head over clusters")

    @cached_property
    def _masked_clusters(self) -> Any:
        @jax.jit
        def run(key: jax.Array, params: Tree, aux_state: Tree, wave: jax.Array, lengths: jax.Array) -> Any:
            frames = self._heads.encoder.frames
            mask = self._heads.draw_mask(key[None], frames(lengths), frames(wave.shape[1]))  # (1, T)
            found, frame_lengths = self._heads.clusters(params, aux_state, wave, lengths, mask)
            return [*found, mask], frame_lengths

        return run

    def _layers(
        self, function: Any, waves: Sequence[np.ndarray], frame_rate: float | None = None
    ) -> list[list[np.ndarray]]:
        """Returns the arrays that `function` computes for each of the checked waves. Raises UserError if one is not
        finite.

        frame_rate: frames per second of the arrays (default: the encoder's).
        """
        hop = round(SAMPLE_RATE / (frame_rate or self.objective.frame_rate))
        found = layers_of(partial(function, self.params, self.aux_state), waves, hop)
        if not all(np.isfinite(array).all() for arrays in found for array in arrays):
            raise UserError(
                "the encoder's output holds NaN or infinite values: its weights are too large, or training "
                "diverged; use another checkpoint"
            )
        return found

    def _checked(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        wave = np.asarray(wave, np.float32)
        if wave.ndim != 1:
            raise UserError(f"a wave of shape (S,) was expected, not {wave.shape}: pass one channel at a time")
        if not np.isfinite(wave).all():
            raise UserError("the wave holds NaN or infinite samples: clean it first")
        if sample_rate <= 0:
            raise UserError(f"sample_rate = {sample_rate}: pass how many samples a second has")
        if sample_rate != SAMPLE_RATE and len(wave):
            wave = soxr.resample(wave, sample_rate, SAMPLE_RATE)
        if len(wave) < self.objective.min_samples:
            raise UserError(
                f"the wave has {len(wave)} samples at {SAMPLE_RATE} Hz; this model needs {self.objective.min_samples}"
            )
        return wave


@takes_buckets(folder=copied_model)
def load_pretrained(folder: str | Path, step: Step | None = None, *, best: bool = False) -> Pretrained:
    """Returns the model of a run's checkpoint, or of a folder of transformers.

    folder: RUN, RUN/checkpoints/STEP, or a folder that transformers or `jepa-speech export hf` wrote, of a model type
    that docs/import.md lists. The latter is loaded as `jepa-speech import hf` converts it, with step 0.
    step: the number of a checkpoint's step, "latest" or "best" (see `at_step`). Default: the step that `folder` names,
    or the newest.
    best: without a step, prefer the checkpoint that the run's `train.best` kept to the newest.

    Raises UserError for another folder, and for a checkpoint that is missing (the message lists the steps), damaged or
    of another architecture.
    """
    run, named = located(folder)
    path = run / "config.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: not a run folder, nor one of transformers (no config.json); `jepa-speech train --workdir "
            f"{quoted(folder)}` makes one, and nothing is downloaded"
        )
    written = config_of_a_run(path)
    if "model_type" in written:
        if step is not None:
            raise UserError(f"{folder}: a folder of transformers, which has no steps: leave out step {step}")
        model = imported_model(folder)
        return Pretrained(model.config, model.objective, model.params, model.aux_state, 0, written=model.written)
    if "objective" not in written:
        raise UserError(
            f"{path}: neither of a run (no `objective` in it) nor of a model of transformers (no `model_type`)"
        )
    config, objective = built(written, path)
    if best and step is None and named is None and was_kept(run, config.train.best):
        step = "best"
    number, saved = read_weights(folder if step is None else at_step(folder, step))
    check_blocks(config, saved, path)
    like = jax.eval_shape(objective.init, jax.random.PRNGKey(0))
    params, aux_state = arranged(saved, like, str(folder))
    figure = best_figure(run) if step == "best" else ""
    params, aux_state = jax.tree.map(jnp.asarray, (params, aux_state))
    return Pretrained(config, objective, params, aux_state, number, figure, written)


def check_blocks(config: RunConfig, saved: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises UserError if config.json gives another number of blocks than the checkpoint has.

    This check precedes building, which takes time for each block.
    """
    prefix = "params/encoder/blocks/"
    count = len({name[len(prefix) :].partition("/")[0] for name in saved if name.startswith(prefix)})
    blocks = getattr(config.encoder, "blocks", count)
    if count and blocks != count:
        raise UserError(
            f"{path}: encoder.blocks = {blocks}, and the checkpoint has {count}: restore the config.json that the run "
            "was trained with"
        )


def built(written: Mapping[str, Any], path: Path) -> tuple[RunConfig, Objective]:
    """Returns config and objective of a run's config.json. Raises UserError, naming the file, for a wrong key."""
    for key, (kind, default) in READ.items():
        section, _, name = key.rpartition(".")
        row = checked.field(written, section, dict, str(path), default={}) if section else written
        checked.field(row, name, kind, f"{path}: {section}" if section else str(path), default=default)
    try:
        config = parsed(written)
        return config, build(config)
    except UsageError as error:
        raise UserError(f"{path}: {error}") from error


def untrained(config: RunConfig, seed: int) -> Pretrained:
    """Returns a model of the same architecture with the parameters of step 0, drawn from `seed`."""
    objective = build(config)
    with drawn_by_kernel(wanted=jax.default_backend() == "gpu"):
        params, aux_state = jax.jit(objective.init)(jax.random.PRNGKey(seed))
    return Pretrained(config, objective, params, aux_state, 0, written=plain(config))
