"""Gains of rows over their baselines, paired over seeds: interval, p value, verdict, power.

The units of a gain are the seeds. Those of an average over LEAST_DATA_SETS data sets or more are
the data sets: the question is then whether CRAFT helps on data sets like these, and seeds of one
data set are no independent answers to it. Fewer data sets cannot tell their spread; an average over
them is about these very data sets, and seeds are its units.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dassl import outcomes, record
from dassl.errors import UserError
from tools.protocols import Protocol, Row
from tools.protocols.rows import harmonic
from tools.statistics import (
    EFFECT,
    LEAST_DATA_SETS,
    LEVEL,
    POWER,
    Part,
    error_of,
    hierarchical,
    holm,
    jackknife_error,
    part,
    power,
    standard_error,
    t_test,
    units_needed,
)

LOWER_IS_BETTER = ("gap",)
T, BOOTSTRAP = "t", "bootstrap"
DRAWN = {"seeds": "seeds and images", "data sets": "data sets, seeds and images"}


@dataclass(frozen=True)
class Gain:
    """A difference of means in points, over the seeds that both rows have.

    deviation: sample standard deviation of the seeds' gains; None for one seed. low, high: 95%
    interval by `method` over `units` (seeds or data sets). p: two-sided, of a t test over the same
    units. p_holm: p corrected for all gains of the column. None of these without two units.
    spread: standard deviation of the gain over `count` units, in points; of a bootstrap over seeds
    and images the one that its interval comes from, had seeds alone made it.
    """

    mean: float
    seeds: tuple[int, ...]
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    units: str = "seeds"
    method: str = T
    spread: float | None = None
    count: int = 0

    def text(self) -> str:
        """Mean and interval."""
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def holds(self) -> bool:
        """Whether p after Holm is at most LEVEL and the interval leaves out 0."""
        if self.p_holm is None or self.low is None or self.high is None:
            return False
        return self.p_holm <= LEVEL and not self.low <= 0 <= self.high

    def verdict(self, column: str) -> str:
        """gain or loss, if it holds; else open."""
        if not self.holds:
            return "open"
        return "gain" if (self.mean > 0) != (column in LOWER_IS_BETTER) else "loss"

    @property
    def interval(self) -> str:
        """How the interval was made, in words; "" without one."""
        if self.low is None:
            return ""
        return f"{self.method} over {DRAWN[self.units] if self.method == BOOTSTRAP else self.units}"

    def record(self, column: str) -> dict[str, object]:
        """For a JSON file."""
        return {
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "p_holm": self.p_holm,
            "verdict": self.verdict(column),
            "interval": self.interval,
            "standard_deviation": self.deviation,
            "seeds": self.seeds,
        }


def from_record(stored: Mapping) -> Gain:
    """The gain that `Gain.record` wrote, without its p after Holm if the file has none.

    Files of older versions hold the standard error over seeds instead of interval and p.
    """
    low, high, p = (stored.get(name) for name in ("low", "high", "p"))
    seeds, error = tuple(stored["seeds"]), stored.get("standard_error")
    if error is not None and len(seeds) > 1:
        low, high, p = t_test(stored["mean"], error, len(seeds))
    deviation, p_holm = stored.get("standard_deviation"), stored.get("p_holm")
    return Gain(stored["mean"], seeds, deviation, low, high, p, p_holm)


def verdict_column(protocol: Protocol | None, columns: Sequence[str]) -> str:
    """The column of a table whose gains get a verdict."""
    wanted = protocol.verdict if protocol else ""
    return wanted if wanted in columns else columns[-1]


def verdicts(gain: Gain, column: str) -> list[str]:
    """Cells of a table: p, p after Holm, verdict."""

    def shown(p: float | None) -> str:
        return "" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"

    return [shown(gain.p), shown(gain.p_holm), gain.verdict(column)]


def mean_of(row: Row, column: str, seeds: Iterable[int]) -> float:
    """A cell of the table over some seeds. H of averages is H of the averaged base and new."""
    if column == "H" and row.members:
        base, new = (
            statistics.mean(row.of(name)[seed] for seed in seeds) for name in ("base", "new")
        )
        return harmonic(base, new)
    return statistics.mean(row.of(column)[seed] for seed in seeds)


# The data sets that a cell is an average of


def _tests(row: Row, column: str) -> list[tuple[Row, list[str]]]:
    """(row, columns of accuracies) of each data set that a cell is made of."""
    rows = row.parts or (row,)
    if column == "average":
        return [(one, [target]) for one in rows for target in sorted(row.targets)]
    return [(one, ["base", "new"] if column == "H" else [column]) for one in rows]


def _pairs(row: Row, baseline: Row, column: str) -> list[tuple[Row, Row, list[str]]]:
    """`_tests` of a row, with the baseline's row on the same data set."""
    theirs = {one.dataset: one for one in baseline.parts or (baseline,)}
    return [(ours, theirs[ours.dataset], columns) for ours, columns in _tests(row, column)]


def _data_set(row: Row) -> str:
    """The data set of a row, of whatever cut of its classes."""
    return row.dataset.partition(" (cut ")[0]


def _trained_on(row: Row) -> str:
    """The data set that a row's runs were trained on: tests of one training share its draws."""
    return row.run.source if row.run else _data_set(row)


def _share(rows: Sequence[Row]) -> bool:
    """Whether some rows but not all share a training, or rows are cuts of one data set."""
    sources, names = {_trained_on(row) for row in rows}, {row.dataset for row in rows}
    return 1 < len(sources) < len(names) or len({_data_set(row) for row in rows}) < len(names)


def _combined(values: NDArray) -> NDArray:
    """What the table shows of accuracies (..., M): base and new as H, one as it is."""
    if values.shape[-1] == 1:
        return values[..., 0]
    total = values.sum(-1)
    return np.divide(2 * values.prod(-1), total, out=np.zeros_like(total), where=total > 0)


def _difference(units: NDArray) -> float:
    """The gain of data sets (D, M, 2): mean accuracies of both rows."""
    ours, theirs = np.moveaxis(units.mean(0), -1, 0)
    return float(_combined(ours) - _combined(theirs))


# Outcomes of single images


class Saved:
    """The outcomes that the runs of a table saved, each file read once."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._known: dict[Path, outcomes.Hits | None] = {}

    def hits(self, row: Row, column: str, seed: int) -> outcomes.Hits | None:
        """Of one run; None without its file, and for a column that is not its accuracy."""
        path = row.files.get(column, {}).get(seed)
        if path is None:
            return None
        if path not in self._known:
            self._known[path] = self._read(path)
        found = self._known[path]
        if found is None or abs(100 * found.correct.mean() - row.of(column)[seed]) > 1e-6:
            return None
        return found

    def _read(self, path: Path) -> outcomes.Hits | None:
        if not outcomes.place(path.parent, "test").is_file():
            return None
        try:
            return outcomes.read_hits(path.parent, "test", record.read(path))
        except UserError as error:
            self.problems.append(str(error))
            return None

    def parts(
        self, row: Row, baseline: Row, column: str, seeds: Sequence[int]
    ) -> list[list[Part]] | None:
        """For `hierarchical`; None if an outcome is missing, or images differ between runs."""
        found = []
        for ours, theirs, columns in _pairs(row, baseline, column):
            parts = [self._part(ours, theirs, name, seeds) for name in columns]
            if any(one is None for one in parts):
                return None
            found.append([one for one in parts if one is not None])
        return found

    def _part(self, ours: Row, theirs: Row, column: str, seeds: Sequence[int]) -> Part | None:
        hits = [self.hits(row, column, seed) for row in (ours, theirs) for seed in seeds]
        known = [one for one in hits if one is not None]
        if len(known) < len(hits):
            return None
        if len({one.images for one in known}) > 1:
            problem = (
                f"runs of {ours.name} and {theirs.name} on {ours.dataset} ({column}) were tested "
                "on different images: their averages have no bootstrap interval"
            )
            self.problems += [problem] if problem not in self.problems else []
            return None
        correct = [one.correct for one in known]
        return part(correct[: len(seeds)], correct[len(seeds) :], known[0].cluster, known[0].images)


# Gains


def gain(row: Row, baseline: Row | None, column: str, saved: Saved) -> Gain | None:
    """The gain of a cell; None if no seed is shared, and for averages over other data sets.

    p is that of a t test over the gain's units; the standard error of an average over data sets is
    the jackknife's, which for a mean is the usual one and for H needs no linearity. The interval is
    Student's t, or `hierarchical` for an average whose runs all saved outcomes. Tests of one
    training, and cuts of one data set, are one unit; where only some share one, there is no
    `hierarchical`, which would draw what they share twice. Where it draws seeds and images, so
    that its interval is not that of a t test over seeds, p and spread are those of its interval.
    """
    if baseline is None or baseline.members != row.members:
        return None
    ours, theirs = row.of(column), baseline.of(column)
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        return None
    gains = [ours[seed] - theirs[seed] for seed in seeds]
    found = Gain(mean_of(row, column, seeds) - mean_of(baseline, column, seeds), seeds)
    if len(seeds) > 1:
        found = replace(found, deviation=statistics.stdev(gains))
    pairs = _pairs(row, baseline, column)
    several = _share([one for one, _, _ in pairs])
    names = [_trained_on(one) for one, _, _ in pairs]
    if over := len(set(names)) >= LEAST_DATA_SETS:
        units = np.array(
            [
                [[mean_of(one, name, seeds) for one in (mine, other)] for name in columns]
                for mine, other, columns in pairs
            ]
        )
        error, count = jackknife_error(_difference, units, names), len(set(names))
    elif len(seeds) > 1:
        error, count = standard_error(gains), len(seeds)
    else:
        return found
    low, high, p = t_test(found.mean, error, count)
    found = replace(
        found,
        low=low,
        high=high,
        p=p,
        units="data sets" if over else "seeds",
        spread=error * count**0.5,
        count=count,
    )
    drawn = len(pairs) > 1 and not several
    parts = saved.parts(row, baseline, column, seeds) if drawn else None
    if parts is None:
        return found
    sources = {one.run.source if one.run else one.dataset for one, _, _ in pairs}
    low, high = hierarchical(parts, _combined, over, same_runs=len(sources) == 1)
    found = replace(found, low=low, high=high, method=BOOTSTRAP)
    if over:
        return found
    error = error_of(low, high, count)
    return replace(found, p=t_test(found.mean, error, count).p, spread=error * count**0.5)


def compared(
    pairs: Iterable[tuple[Row, Row | None]], columns: Sequence[str], together: bool = False
) -> tuple[list[dict[str, Gain | None]], list[str]]:
    """({column: gain} of each row and its baseline, sentences on files that cannot be used).

    Holm's correction is for all gains of a column; together: of all columns.
    """
    saved = Saved()
    table = [
        {column: gain(row, baseline, column, saved) for column in columns}
        for row, baseline in pairs
    ]
    return corrected(table, together), saved.problems


def corrected(
    table: Sequence[Mapping[str, Gain | None]], together: bool = False
) -> list[dict[str, Gain | None]]:
    """The same gains, {column: gain} of each row, with p after Holm over all of their column, or
    over all columns together.
    """
    found = [dict(line) for line in table]
    columns = list(dict.fromkeys(column for line in found for column in line))
    for family in [columns] if together else [[column] for column in columns]:
        tested = [
            (line, column, one, one.p)
            for line in found
            for column in family
            if (one := line.get(column)) is not None and one.p is not None
        ]
        adjusted = holm([p for *_, p in tested])
        for (line, column, one, _), p in zip(tested, adjusted, strict=True):
            line[column] = replace(one, p_holm=p)
    return found


# What stands under a table


def notes(
    rows: Sequence[Row], table: Sequence[dict[str, Gain | None]], columns: Sequence[str]
) -> list[str]:
    """Sentences on intervals, comparisons and power; columns: those with verdicts."""
    every = [one for line in table for one in line.values() if one is not None]
    if not every:
        return []
    if all(one.p is None for one in every):
        return ["gains of one seed have no interval and no p value"]
    decided = [
        (row, one)
        for row, line in zip(rows, table, strict=True)
        for column in columns
        if (one := line[column]) is not None
    ]
    family = [one for _, one in decided if one.p is not None]
    column = columns[0] if len(columns) == 1 else "all columns"
    number = f"{len(family)} comparison{'' if len(family) == 1 else 's'}"
    sentences = [
        _on_intervals(rows, table),
        f"{number}: the gains in {column} of this table; p is two-sided, Holm's correction is for "
        f"all of them, and a verdict other than open needs p of at most {LEVEL} after it and an "
        "interval without 0",
    ]
    single = [one for row, one in decided if not row.members and one.deviation is not None]
    over = [one for one in family if one.units == "data sets" and one.spread is not None]
    of_seeds = [one for row, one in decided if row.members and one.deviation is not None]
    if single:
        sentences.append(_on_power(single, f"{column} on a data set", len(family)))
    elif over:
        sentences.append(_on_power_over_sets(over, column, len(family)))
    elif of_seeds:
        sentences.append(_on_power(of_seeds, f"{column} on these data sets", len(family)))
    return sentences


def _on_intervals(rows: Sequence[Row], table: Sequence[dict[str, Gain | None]]) -> str:
    words = (
        "gains are means over seeds with 95% intervals of Student's t over the seeds, on these "
        "test images"
    )
    averages = Counter(
        (one.method, one.units, _share(row.parts))
        for row, line in zip(rows, table, strict=True)
        for column, one in line.items()
        if one is not None and one.p is not None and len(_tests(row, column)) > 1
    )
    how = [
        f"{count} by a bootstrap over {DRAWN[units]}"
        if method == BOOTSTRAP
        else f"{count} by Student's t over {units}, "
        + (
            "since some share a training or images"
            if cuts
            else "for want of saved outcomes or accuracies"
        )
        for (method, units, cuts), count in sorted(averages.items())
    ]
    if how:
        words += f"; those of averages are {' and '.join(how)}"
    if any(units == "data sets" for _, units, _ in averages):
        words += f"; p of averages over {LEAST_DATA_SETS} data sets or more is over the data sets"
    return words


def _on_power(single: Sequence[Gain], column: str, comparisons: int) -> str:
    deviation = statistics.median(one.spread for one in single if one.spread is not None)
    more = ", images counted in" if any(one.method == BOOTSTRAP for one in single) else ""
    seeds = statistics.median_low(len(one.seeds) for one in single)
    needed = units_needed(deviation)
    enough = f"{needed} seeds are" if needed else "more seeds than anybody runs are"
    return (
        f"power: at the median standard deviation of the seeds' gains in {column} "
        f"({deviation:.2f} points{more}), a t test of {seeds} seeds sees a true gain of "
        f"{EFFECT:+} in {_seen(deviation, seeds, EFFECT, comparisons)}; {enough} needed for "
        f"{100 * POWER:.0f} of one alone"
    )


def _on_power_over_sets(averages: Sequence[Gain], column: str, comparisons: int) -> str:
    deviation = statistics.median(one.spread for one in averages if one.spread is not None)
    sets = statistics.median_low(one.count for one in averages)
    return (
        f"power: at the median spread of an average's gains in {column} over the data sets "
        f"({deviation:.2f} points), a t test of {sets} data sets sees a true gain of {EFFECT:+} in "
        f"{_seen(deviation, sets, EFFECT, comparisons)}, and one of {EFFECT / 2:+} in "
        f"{_seen(deviation, sets, EFFECT / 2, comparisons)}"
    )


def _seen(deviation: float, units: int, effect: float, comparisons: int) -> str:
    """In how many cases a gain is seen: of one comparison alone, and where it is the only one of
    all that is true, which Holm's correction then tests first.
    """
    alone = f"{100 * power(deviation, units, effect):.0f} of 100 cases"
    if comparisons < 2:
        return alone
    first = power(deviation, units, effect, LEVEL / comparisons)
    return f"{alone} ({100 * first:.0f} after Holm's correction for {comparisons})"
