"""Sentences on a table, made from its numbers: what was compared, and what came out."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tools import results
from tools.gains import LOWER_IS_BETTER, Gain
from tools.protocols import Row

FEW = 6  # names in a sentence; of more, their number is told


def listed(names: Iterable[str], kind: str) -> str:
    """ "a, b and c"; of many, "12 `kind`"."""
    unique = list(dict.fromkeys(names))
    if len(unique) > FEW:
        return f"{len(unique)} {kind}"
    if len(unique) < 2:
        return "".join(unique)
    return f"{', '.join(unique[:-1])} and {unique[-1]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """ "1 run", "2 runs"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def compared(content: results.Tables) -> str:
    """Which methods, with or without CRAFT, on which data sets, with how many seeds."""
    paired = {content.baseline(row) for row in content.gaining if not row.members}
    both = [row.structure for row in content.rows if row in paired]
    alone = [row.trainer for row in content.rows if row.learns and row.structure not in both]
    frozen = [row.trainer for row in content.rows if not row.learns]
    parts = [f"{listed(both, 'structures')} with and without CRAFT"] if both else []
    parts += [listed(names, "methods") for names in (alone, frozen) if names]
    sets = listed((row.dataset for row in content.rows), "data sets")
    seeds = {seed for row in content.rows if row.learns for seed in row.seeds}
    runs = sum(len(row.runs) for row in content.rows)
    over = f", {counted(len(seeds), 'seed')}" if seeds else ""
    return f"{'; '.join(parts)} on {sets}{over}: {counted(runs, 'run')}."


def finding(content: results.Tables) -> list[str]:
    """What CRAFT gained in the column with verdicts, with the interval of the clearest gain.

    Averages over data sets are told where there are any, else each data set.
    """
    column = content.verdict
    pairs = [
        (row, gain)
        for row, line in zip(content.gaining, content.gains, strict=True)
        if (gain := line[column]) is not None
    ]
    family = len([gain for _, gain in pairs if gain.p is not None])
    main = [pair for pair in pairs if pair[0].members] or pairs
    if not main:
        return [_highest(content, column)]
    means = [gain.mean for _, gain in main]
    low, high = min(means), max(means)
    tested = [(row, gain) for row, gain in main if gain.p is not None]
    if not tested:
        span = f"{low:+.2f}" if len(main) == 1 else f"{low:+.2f} to {high:+.2f}"
        return [
            f"Open: CRAFT changes {column} by {span} points, without an interval for want of a "
            "second seed."
        ]
    sentences = [_verdicts([gain for _, gain in tested], column, family)]
    row, gain = min(tested, key=lambda pair: (not pair[1].holds, pair[1].p or 0.0))
    name = results.plots.label(row, content.ours)
    where = f"{row.dataset}" if not row.members else f"the {row.dataset} data sets"
    first = "" if len(tested) == 1 else "The clearest is "
    sentences.append(f"{first}{name} on {where}: {gain.text()} points (95% interval; {_p(gain)}).")
    if len(main) > 1:
        sentences.append(f"Gains reach from {low:+.2f} to {high:+.2f} points.")
    return [*sentences, *_caveats(content, [gain for _, gain in tested], column)]


def _verdicts(tested: Sequence[Gain], column: str, family: int) -> str:
    count = Counter(gain.verdict(column) for gain in tested)
    holm = f"after Holm's correction for {counted(family, 'comparison')}"
    if len(tested) == 1:
        ((verdict, _),) = count.items()
        words = {"open": "Open: no gain or loss", "gain": "A gain", "loss": "A loss"}
        return f"{words[verdict]} of CRAFT in {column} {holm}."
    if count["open"] == len(tested):
        return (
            f"Open: none of {len(tested)} differences in {column} can be told from chance {holm}."
        )
    return (
        f"In {column} CRAFT has {counted(count['gain'], 'gain')}, "
        f"{counted(count['loss'], 'loss', 'losses')} and {count['open']} open {holm}."
    )


def _p(gain: Gain) -> str:
    if gain.p_holm is None:
        return "no p"
    return f"corrected p {'below 0.001' if gain.p_holm < 0.001 else f'{gain.p_holm:.3f}'}"


def _caveats(content: results.Tables, tested: Sequence[Gain], column: str) -> list[str]:
    sentences = []
    if any(gain.verdict(column) == "open" for gain in tested):
        sentences.append("Open does not mean that there is no effect.")
    if content.unlike:
        rows = counted(len(content.unlike), "row")
        sentences.append(
            f"{rows} {'differs' if len(content.unlike) == 1 else 'differ'} from the baseline in "
            "more than CRAFT: the notes say in what."
        )
    return sentences


def _highest(content: results.Tables, column: str) -> str:
    """Of a table without gains."""
    found: list[tuple[Row, results.Number]] = [
        (row, one)
        for row in (content.averages or content.rows)
        if (one := results.number(row, column)) is not None
    ]
    if not found:
        return f"No pair of runs with and without CRAFT, and no {column}."
    better = min if column in LOWER_IS_BETTER else max
    row, one = better(found, key=lambda pair: pair[1].mean)
    word = "lowest" if column in LOWER_IS_BETTER else "highest"
    return (
        f"No pair of runs with and without CRAFT. The {word} {column} is {one.text()}, of "
        f"{results.plots.label(row, content.ours)} on {row.dataset}."
    )
