"""Write what the pages copy from elsewhere: result tables from docs/results/, config keys from
their declarations.

    python -m tools.pages            # after a change of either
    python -m tools.pages --check    # exit code 1 if a page is not up to date

A copy stands between the lines `<!-- generated: WHAT -->` and `<!-- end -->`. WHAT is one of

    options                    a table of every config key
    options GROUP              the keys of one group, such as TRAINER.CRAFT
    results NAME accuracy      the table of docs/results/NAME.json
    results NAME gain          the gains of CRAFT in it
    results NAME notes         what stands under it: rules of selection, comparisons, power
    results NAME terms         gains of each term of CRAFT in the harmonic mean, of the average row
    results NAME health        whether baselines keep the rules of tools.suite.health
    suite                      the data sheet of docs/results/suite.json
    shifted                    that of docs/results/shifted.json
    judgement NAME             what rules reached, of docs/results/selections/NAME.json
    judgement NAME pairs       the rules beside each other

Behind `results NAME KIND` may follow `datasets=A,B` and `trainers=A,B` (only these),
`rows=averages` or `rows=sets` (only averages over data sets, or none), `average` (add the average
of these data sets) and `indent=4` (for a code block).
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools import configs, inputs, judge
from tools.arguments import Parser
from tools.gains import Gain, corrected, from_record, verdict_column, verdicts
from tools.inputs import InputError
from tools.protocols import PROTOCOLS
from tools.protocols.rows import is_average
from tools.results import Number, markdown
from tools.statistics import standard_error, t_test
from tools.suite import check, health, shifted

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- generated: (.*?) -->\n\n).*?<!-- end -->", re.S)
# Open on paper, closed on a screen.
NOTES = '<details markdown="1"><summary>What stands under this table</summary>\n\n{}\n\n</details>'
TERMS = ("static", "stochastic", "both", "mmd")  # config names of the ablation


def pages() -> list[Path]:
    """The README and all of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def updated(text: str) -> str:
    """A page with every block written anew. Raises InputError for an unknown WHAT."""
    return BLOCK.sub(lambda match: f"{match[1]}{block(match[2])}\n\n<!-- end -->", text)


def block(what: str) -> str:
    kind, *words = what.split()
    if kind == "options" and len(words) <= 1:
        return options(*words)
    if kind == "suite" and not words:
        return suite()
    if kind == "shifted" and not words:
        sheet = json.loads((ROOT / "docs/results/shifted.json").read_text())
        return markdown(*shifted.table(sheet))
    if kind == "judgement" and len(words) in (1, 2):
        return judgement(*words)
    if kind == "results" and len(words) >= 2:
        return results(*words)
    raise InputError(f"'generated: {what}' is unknown: see python -m tools.pages --help")


# Tables


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of which are titles, as a Markdown table with aligned columns."""
    head, *others = map(list, rows)
    return markdown(head, others)


# The suite


def suite() -> str:
    """A line per set, as `tools.suite.check --out` wrote it."""
    sheet = json.loads((ROOT / "docs/results/suite.json").read_text())
    measured = {"chance": 1, "zero-shot": 1, "probe": 1, "styles": 2}  # digits
    measured |= dict.fromkeys((*check.ON_TEST, *check.OTHER_WORDS), 1)
    known = {name: n for name, n in measured.items() if all(name in row for row in sheet.values())}
    taken = check.chosen(sheet)
    rows = [["set", "classes", "train", "val", "test", "families", *known, "breaks", "taken"]]
    for name, row in sheet.items():
        rows.append(
            [
                name,
                *("+".join(map(str, row["classes"])), str(row["train"]), str(row["val"])),
                *("+".join(map(str, row["test"])), str(row["families"])),
                *(f"{row[column]:.{digits}f}" for column, digits in known.items()),
                "; ".join(row["faults"]) or "no rule",
                "yes" if name in taken else "no",
            ]
        )
    return aligned(rows)


# Rules of selection


def judgement(name: str, kind: str = "") -> str:
    """A table of a judgement.json that `tools.select --judge` wrote."""
    content = json.loads((ROOT / f"docs/results/selections/{name}.json").read_text())
    if kind == "pairs":
        pairs = [judge.Difference(**one) for one in content["differences"]]
        columns = list(content["lines"][0]["mean"])
        protocol = PROTOCOLS[content["plan"]["protocol"]]
        return markdown(*judge.beside(pairs, verdict_column(protocol, columns)))
    return markdown(*judge.reached(content["lines"], with_choice=False))


# Results


def results(name: str, kind: str, *words: str) -> str:
    """The table `kind` of docs/results/`name`.json."""
    wanted = dict(word.partition("=")[::2] for word in words)
    try:
        table = json.loads((ROOT / f"docs/results/{name}.json").read_text())
    except OSError as error:
        raise InputError(f"docs/results/{name}.json cannot be read ({error.strerror})") from None
    trainers = wanted["trainers"].split(",") if "trainers" in wanted else []
    datasets = wanted["datasets"].split(",") if "datasets" in wanted else []
    with_gains(table["rows"])
    rows = [
        row
        for row in table["rows"]
        if row["trainer"] in (trainers or [row["trainer"]])
        and row["dataset"] in (datasets or [row["dataset"]])
    ]
    if "rows" in wanted:
        if wanted["rows"] not in ("averages", "sets"):
            raise InputError(f"rows is '{wanted['rows']}': choose averages or sets")
        means = wanted["rows"] == "averages"
        rows = [row for row in rows if is_average(row["dataset"]) == means]
    if "average" in wanted:
        rows += averages([row for row in rows if not is_average(row["dataset"])])
    if kind == "terms":
        text = terms(table["rows"], trainers)
    elif kind == "health":
        text = aligned([health.HEAD, *(rule.cells for rule in health.rules(table))])
    elif kind == "accuracy":
        protocol = PROTOCOLS.get(table.get("protocol"))
        interval = protocol is not None and protocol.intervals
        text = aligned(accuracies(table["columns"], rows, interval))
    elif kind == "gain":
        protocol = PROTOCOLS.get(table.get("protocol"))
        decides = verdict_column(protocol, table["columns"])
        family = table["columns"] if protocol and protocol.every_column else [decides]
        count = sum(
            (gain := row["cells"][column].get("gain")) is not None and gain.p_holm is not None
            for row in table["rows"]
            for column in family
            if row["cells"].get(column)
        )
        text = aligned(gains(table["columns"], rows, decides, count))
    elif kind == "notes":
        text = NOTES.format("\n".join(f"* {note}" for note in table["notes"]))
    else:
        raise InputError(
            f"'{kind}' is no table of results: choose one of accuracy, gain, notes, terms, health"
        )
    margin = " " * int(wanted.get("indent", 0))
    return "\n".join(margin + line for line in text.splitlines())


def _level(cell: dict) -> Number:
    """A cell of a table in JSON."""
    return Number(cell["mean"], cell["standard_deviation"], tuple(map(int, cell["values"])))


def accuracies(
    columns: Sequence[str], rows: Iterable[dict], interval: bool = False
) -> list[list[str]]:
    """Mean and standard deviation of each cell, or its interval, and the seeds."""
    rows = list(rows)
    told = list(rows[0].get("told", ())) if rows else []
    table = [["data set", "trainer", "config", *told, "shots", *columns, "seeds"]]
    for row in rows:
        cells = [row["cells"][column] for column in columns]
        table.append(
            [row["dataset"], row["trainer"], row["config"]]
            + [row["told"][name] for name in told]
            + [row["shots"]]
            + [_level(cell).text(interval) for cell in cells]
            + [numbers(sorted(map(int, cells[0]["values"])))]
        )
    return table


def numbers(ascending: Sequence[int]) -> str:
    """`1, 3 to 6`: three or more in a row are shortened."""
    runs: list[list[int]] = []
    for number in ascending:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    return ", ".join(part for run in parts for part in run)


def with_gains(rows: Iterable[dict]) -> None:
    """Make a `Gain` of each stored gain; files of older versions get p after Holm here."""
    every = [row["cells"] for row in rows]
    table: list[dict[str, Gain | None]] = [
        {name: from_record(cell["gain"]) for name, cell in cells.items() if cell and "gain" in cell}
        for cells in every
    ]
    if all(gain is None or gain.p_holm is None for line in table for gain in line.values()):
        table = corrected(table)
    for cells, line in zip(every, table, strict=True):
        for name, gain in line.items():
            cells[name]["gain"] = gain


def gains(
    columns: Sequence[str], rows: Iterable[dict], decides: str, count: int
) -> list[list[str]]:
    """Gain over the baseline in each cell; the config is named if a trainer has several.

    decides: the column with p, p after Holm over `count` comparisons, and verdict.
    """
    rows = [row for row in rows if all("gain" in row["cells"][column] for column in columns)]
    several = len({row["config"] for row in rows}) > 1
    tests = [f"p of {decides}", f"Holm of {count}", "verdict"]
    table = [["data set", "trainer", "shots", *columns, *tests, "seeds paired"]]
    for row in rows:
        cells = [row["cells"][column]["gain"] for column in columns]
        decided = row["cells"][decides]["gain"]
        verdict = verdicts(decided, decides)
        table.append(
            [row["dataset"], f"{row['trainer']} {row['config']}" if several else row["trainer"]]
            + [row["shots"]]
            + [cell.text() for cell in cells]
            + (verdict if decided.p_holm is not None else [verdict[0], "", ""])
            + [str(len(cells[0].seeds))]
        )
    return table


def terms(rows: Iterable[dict], trainers: Sequence[str]) -> str:
    """H of each trainer's baseline in the average row, and the gain of each term of CRAFT."""
    cell = {
        (row["trainer"], row["config"]): row["cells"]["H"]
        for row in rows
        if is_average(row["dataset"])
    }
    table = [["structure", "baseline", "static", "stochastic", "both", "both + MMD"]]
    for trainer in trainers:
        gain = [cell[trainer, term]["gain"] for term in TERMS]
        table.append(
            [trainer, f"{cell[trainer, 'baseline']['mean']:.2f}"] + [one.text() for one in gain]
        )
    return aligned(table)


def averages(rows: Sequence[dict]) -> list[dict]:
    """A row for each trainer: base and new averaged over the data sets, and H of these averages."""
    made: dict[str, dict] = {}
    datasets = {row["dataset"] for row in rows}
    for row in rows:
        trainer = row["trainer"]
        if trainer in made:
            continue
        alike = [other["cells"] for other in rows if other["trainer"] == trainer]
        base, new = (
            {
                seed: statistics.fmean(cells[column]["values"][seed] for cells in alike)
                for seed in row["cells"][column]["values"]
            }
            for column in ("base", "new")
        )
        both = {seed: statistics.harmonic_mean((base[seed], new[seed])) for seed in base}
        cells = {"base": _cell(base), "new": _cell(new), "H": _cell(both)}
        cells["H"]["mean"] = statistics.harmonic_mean(
            cells[column]["mean"] for column in ("base", "new")
        )
        if configs.has_craft(trainer) and (baseline := made.get(configs.structure_of(trainer))):
            for column, cell in cells.items():
                cell["gain"] = _gain(cell, baseline["cells"][column])
        made[trainer] = row | {"dataset": f"average of {len(datasets)}", "cells": cells}
    return list(made.values())


def _cell(values: dict[str, float]) -> dict:
    deviation = statistics.stdev(values.values()) if len(values) > 1 else None
    mean = statistics.fmean(values.values())
    return {"mean": mean, "standard_deviation": deviation, "values": values}


def _gain(cell: dict, baseline: dict) -> Gain:
    """Difference of the means, with Student's t over the differences of the seeds."""
    ours, theirs = cell["values"], baseline["values"]
    seeds = tuple(sorted(ours.keys() & theirs.keys(), key=int))
    pairs = [ours[seed] - theirs[seed] for seed in seeds]
    mean = cell["mean"] - baseline["mean"]
    if len(pairs) < 2:
        return Gain(mean, seeds)
    low, high, p = t_test(mean, standard_error(pairs), len(pairs))
    return Gain(mean, seeds, statistics.stdev(pairs), low, high, p)


# Options


def options(wanted: str = "") -> str:
    """Every key of the engine, the data sets and the trainers, in a table for each group; or one of
    these tables.

    Raises InputError for an unknown group.
    """
    import datasets
    import trainers
    from dassl.config import affects, get_cfg_default, rules

    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    trainers.extend_cfg(cfg)
    groups: dict[str, list[str]] = {}
    for name, default in rules.leaves(cfg):
        key = rules.KEYS[name]
        group, _, last = name.rpartition(".")
        allowed = key.rule.allowed() if key.rule else "anything"
        cells = (f"`{last}`", _code(default), allowed, affects(name), key.help)
        groups.setdefault(group, []).append("| " + " | ".join(cells) + " |")
    tables = {
        group: "| key | default | allowed | affects | |\n|---|---|---|---|---|\n" + "\n".join(lines)
        for group, lines in groups.items()
    }
    if wanted:
        if wanted not in tables:
            raise InputError(f"no config key is in the group '{wanted}': correct the page")
        return tables[wanted]
    return "\n\n".join(f"## {group or 'At the top'}\n\n{tables[group]}" for group in sorted(tables))


def _code(value: object) -> str:
    return f"`{value}`" if value not in ("", (), []) else "empty"


def run(args: argparse.Namespace) -> int:
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := updated(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if not args.check:
                inputs.write(page, new, "page")
    if stale and args.check:
        sys.stdout.write(f"not up to date: {', '.join(stale)}; run python -m tools.pages\n")
        return 1
    sys.stdout.write(f"written: {', '.join(stale) or 'nothing, all pages are up to date'}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
