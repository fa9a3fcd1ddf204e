"""What `compare` runs at each budget: systems, seeds, tasks, and the learning rates that it chooses from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jepa_speech import checked
from jepa_speech.errors import UsageError, UserError

STEPS, WORK = re.compile(r"\d+"), re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)FLOP")
KEYS = ("seeds", "learning_rates", "only_largest")
Labelled = Mapping[Any, Sequence[str]]  # folder -> tasks


@dataclass(frozen=True)
class Ladder:
    """The runs of a comparison.

    seeds: budget, the smallest first -> objective -> number of runs. learning_rates: each objective is trained with
    each of them at the smallest budget, and the best on valid is that of all its runs; (): its config says which.
    only_largest: tasks that are probed at the largest budget alone.
    """

    seeds: dict[str, dict[str, int]]
    learning_rates: tuple[float, ...] = ()
    only_largest: tuple[str, ...] = ()

    @property
    def objectives(self) -> list[str]:
        """All objectives, in the order in which the budgets name them."""
        return list(dict.fromkeys(name for row in self.seeds.values() for name in row))

    @property
    def smallest(self) -> str:
        return next(iter(self.seeds))

    def tasks(self, labelled: Labelled, budget: str | None = None) -> list[str]:
        """Returns the tasks that are probed at a budget, by default at all of them together."""
        left_out = () if budget in (None, list(self.seeds)[-1]) else self.only_largest
        return [task for tasks in labelled.values() for task in tasks if task not in left_out]


def ladder_of(
    table: Any,
    where: str,
    objectives: Sequence[str] | None,
    budgets: int | str | Sequence[int | str] | None,
    seeds: int | None,
) -> Ladder:
    """Returns the ladder of a config's LADDER (None if it has none), of which the other arguments choose or replace.

    objectives, budgets: default: those of LADDER. seeds: of each objective at each budget; default: those of LADDER,
    or 1 without it. Raises UsageError for a table of another form, an invalid budget, and what neither names.
    """
    known = checked_table(table, where) if table is not None else {}
    numbers: Mapping[str, Mapping[str, int]] = known.get("seeds", {})
    chosen = [str(one) for one in ([budgets] if isinstance(budgets, (int, str)) else budgets or numbers)]
    names = list(objectives or dict.fromkeys(name for row in numbers.values() for name in row))
    if not chosen or not names:
        raise UsageError(f"{where} has no LADDER: say which objectives and budgets")
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds = {seeds}: at least 1")
    if len({bool(STEPS.fullmatch(budget)) for budget in chosen}) > 1 or len(set(chosen)) < len(chosen):
        raise UsageError(f"budgets = {','.join(chosen)}: write each once, all as steps or all as FLOP")
    rows: dict[str, dict[str, int]] = {}
    for budget in sorted(chosen, key=size_of):
        of_each = {name: seeds for name in names} if seeds else numbers.get(budget)
        if of_each is None:
            if numbers:
                raise UsageError(f"{where}: LADDER says nothing of the budget {budget}: say how many seeds")
            of_each = dict.fromkeys(names, 1)
        rows[budget] = {name: of_each[name] for name in names if name in of_each}
    ladder = Ladder(rows, tuple(known.get("learning_rates", ())), tuple(known.get("only_largest", ())))
    if missing := [name for name in names if name not in rows[ladder.smallest]]:
        raise UsageError(f"{where}: LADDER says nothing of {', '.join(missing)} at the budget {ladder.smallest}")
    return ladder


def size_of(budget: str) -> float:
    """Returns the number of a budget, 800 or 3e14FLOP. Raises UsageError for any other text."""
    size = float(budget.removesuffix("FLOP")) if STEPS.fullmatch(budget) or WORK.fullmatch(budget) else 0.0
    if size <= 0:
        raise UsageError(f"budget = {budget}: write 800 (steps) or 3e14FLOP")
    return size


def checked_table(table: Any, where: str) -> Mapping[str, Any]:
    """Returns LADDER. Raises UsageError unless it has the form that configs/ladder.py shows."""
    try:
        rows = checked.field(table, "seeds", dict, "LADDER")
        for budget, row in rows.items():
            size_of(budget)
            for name in checked.field(rows, budget, dict, "LADDER: seeds"):
                checked.field(row, name, int, f"LADDER: seeds: {budget}", least=1)
        for rate in checked.field(table, "learning_rates", tuple, "LADDER", default=()):
            checked.value(rate, "LADDER: learning_rates", (int, float), least=1e-12)
        checked.field(table, "only_largest", tuple, "LADDER", default=())
        if unknown := sorted(table.keys() - set(KEYS)):
            raise UserError(f"LADDER: unknown key {unknown[0]}: choose from {', '.join(KEYS)}")
    except (UserError, AttributeError) as error:
        raise UsageError(f"{where}: {error}; configs/ladder.py shows the form") from error
    return table
