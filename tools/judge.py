"""What each rule of a selection chose, and the config as it was, tested as the protocol says.

`python -m tools.select PLAN --judge` asks for it, after the selection is written. The runs lie in a
folder of their own, carry the digest of selection.json, and are read by no selection.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools import inputs
from tools.gains import verdict_column
from tools.inputs import InputError
from tools.launchers import Job
from tools.plans import Plan
from tools.protocols import Row, collect
from tools.protocols.rows import harmonic
from tools.results import markdown
from tools.selection import Selection, stored_in
from tools.statistics import LEVEL, holm, jackknife_error, t_test
from tools.sweep import Sweep

FOLDER = "judged"
DEFAULT = "default"  # the label of a config without the choice of a rule
Chosen = dict[tuple[str, str], dict[str, str]]  # {(method, rule): {cell: label}}


def chosen(plan: Selection, stored: dict) -> Chosen:
    """What each rule chose for each method and cell, the config as it was first."""
    labels: Chosen = {}
    for method, known in zip(plan.methods, stored["methods"], strict=True):
        labels[method.name, DEFAULT] = dict.fromkeys(plan.cells, DEFAULT)
        for rule, of_group in known["chosen"].items():
            groups = plan.groups()
            labels[method.name, rule] = {
                cell: label for group, label in of_group.items() for cell in groups[group]
            }
    return labels


def sweep_of(plan: Selection, labels: Chosen, digest: str) -> Plan:
    """The runs of the protocol with what was chosen, each choice once."""
    jobs: dict[str, Job] = {}
    for method in plan.methods:
        wanted = {
            (label, cell)
            for (name, _), of_cell in labels.items()
            if name == method.name
            for cell, label in of_cell.items()
        }
        for label, cell in sorted(wanted):
            dataset, target = plan.cells[cell]
            study = replace(
                plan.study,
                trainers=[(method.trainer, method.config)],
                datasets=[dataset],
                targets=[target] if target else [],
                overrides={
                    **plan.study.overrides,
                    **method.candidates.get(label, {}),
                    "SELECTION.DIGEST": digest,
                },
                name=label,
            )
            jobs |= {job.folder: job for job in study.jobs()}
    return Plan(plan.path, list(jobs.values()), dict(plan.slurm))


def judge(plan: Selection, stored: dict, root: str, output: str, args: argparse.Namespace) -> int:
    """Run, test and print what each rule chose; 1 if runs failed, else 0.

    Raises InputError if nothing is selected yet, and if the judged runs are another selection's.
    """
    path = stored_in(output)
    if not stored:
        raise InputError(f"'{path}' does not exist: select without --judge first")
    labels = chosen(plan, stored)
    folder = Path(output, FOLDER)
    runs = Sweep(sweep_of(plan, labels, stored["digest"]), root, str(folder))
    runs.refuse_others()
    if args.list:
        sys.stdout.write(runs.listing())
        return 0
    if code := runs.launch(args.launch, args.jobs, args.retries):
        return code
    lines, problems = judged(plan, labels, folder, stored["digest"])
    sources = {cell: dataset for cell, (dataset, _) in plan.cells.items()}
    column = verdict_column(plan.study.protocol, list(lines[0]["mean"]))
    pairs = differences(lines, column, sources)
    text = as_text(plan, lines, pairs, stored["digest"])
    content = {"selection": stored["digest"], "plan": stored["plan"], "lines": lines}
    content |= {"differences": [asdict(pair) for pair in pairs]}
    bodies = (json.dumps(content, indent=1) + "\n", text)
    for name, body in zip(inputs.OF_A_JUDGEMENT, bodies, strict=True):
        inputs.write(folder / name, body, "--output")
    sys.stdout.write(text)
    for problem in problems:
        sys.stdout.write(f"note: {problem}\n")
    return 0


def judged(
    plan: Selection, labels: Chosen, folder: Path, digest: str
) -> tuple[list[dict], list[str]]:
    """(a line for each method and rule: the mean of each column over cells and seeds, H that of the
    mean base and new accuracies, as in all tables; what is wrong with the runs, in sentences).

    Raises InputError for runs of another selection.
    """
    rows: dict[tuple[str, str, str], Row] = {}
    problems: list[str] = []
    for label in sorted({label for of_cell in labels.values() for label in of_cell.values()}):
        found_here, wrong = collect(plan.study.protocol, [folder / label])
        problems += wrong
        for row in found_here:
            for results in row.first.values():
                if results["config"]["SELECTION"]["DIGEST"] != digest:
                    raise InputError(
                        f"'{folder / label}' holds runs of another selection: move '{folder}' away"
                    )
            cell = row.dataset.partition(" (")[0]  # without the cut of the classes
            rows[row.name, label, cell] = row
    found = list(dict.fromkeys(column for row in rows.values() for column in row.values))
    columns = plan.study.protocol.columns(found)
    lines = []
    for (method, rule), of_cell in labels.items():
        values = {
            column: {cell: rows[method, label, cell].of(column) for cell, label in of_cell.items()}
            for column in columns
        }
        means = {column: _over_cells(values, column, list(of_cell)) for column in columns}
        lines.append(
            {"method": method, "rule": rule, "chosen": of_cell, "mean": means, "values": values}
        )
    return lines, problems


def _over_cells(values: Mapping, column: str, cells: Sequence[str]) -> float:
    """A column's mean over cells, each a mean over seeds; H of the means of base and new."""
    if column == "H":
        return harmonic(_over_cells(values, "base", cells), _over_cells(values, "new", cells))
    return statistics.fmean(statistics.fmean(values[column][cell].values()) for cell in cells)


# Rules beside each other


@dataclass(frozen=True)
class Difference:
    """What one rule reached more than another, in points: the mean over the methods.

    low, high: 95% interval, and p of a t test, over the data sets trained on (jackknife); None for
    one data set alone. p_holm: corrected for all pairs of rules.
    """

    rule: str
    other: str
    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        if self.p_holm is None or self.p_holm > LEVEL:
            return "not distinguished"
        return f"{self.rule if self.mean > 0 else self.other} is better"


def differences(
    lines: list[dict], column: str, sources: Mapping[str, str] | None = None
) -> list[Difference]:
    """Of every pair of rules, in one column.

    sources: {cell: data set trained on}, where cells are not data sets: targets of one source are
    no independent units.
    """
    methods, rules = (
        list(dict.fromkeys(line[key] for line in lines)) for key in ("method", "rule")
    )
    known = {(line["method"], line["rule"]): line["values"] for line in lines}
    cells = list(lines[0]["chosen"])
    names = [(sources or {}).get(cell, cell) for cell in cells]
    found = []
    for rule, other in itertools.combinations(rules, 2):

        def difference(places: NDArray, rule: str = rule, other: str = other) -> float:
            kept = [cells[place] for place in places]
            return statistics.fmean(
                _over_cells(known[method, rule], column, kept)
                - _over_cells(known[method, other], column, kept)
                for method in methods
            )

        places = np.arange(len(cells))
        one = Difference(rule, other, difference(places))
        if (count := len(set(names))) > 1:
            error = jackknife_error(difference, places, names)
            low, high, p = t_test(one.mean, error, count)
            one = replace(one, low=low, high=high, p=p)
        found.append(one)
    tested = [one for one in found if one.p is not None]
    adjusted = holm([one.p for one in tested if one.p is not None])
    corrected = {id(one): p for one, p in zip(tested, adjusted, strict=True)}
    return [replace(one, p_holm=corrected.get(id(one))) for one in found]


def reached(lines: list[dict], with_choice: bool = True) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of what each rule reached for each method, and on average over the methods."""
    columns = list(lines[0]["mean"])
    rows = []
    for line in lines:
        chosen = [" / ".join(dict.fromkeys(line["chosen"].values()))] if with_choice else []
        means = [f"{line['mean'][column]:.2f}" for column in columns]
        rows.append([line["method"], line["rule"], *chosen, *means])
    for rule in dict.fromkeys(line["rule"] for line in lines):
        of_rule = [line["mean"] for line in lines if line["rule"] == rule]
        means = [f"{statistics.fmean(mean[column] for mean in of_rule):.2f}" for column in columns]
        rows.append([f"average of {len(of_rule)}", rule, *([""] if with_choice else []), *means])
    return ["method", "rule", *(["chosen"] if with_choice else []), *columns], rows


def beside(pairs: Sequence[Difference], column: str) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the rules' differences."""
    rows = [
        [
            f"{one.rule} over {one.other}",
            f"{one.mean:+.2f}" + ("" if one.low is None else f" [{one.low:+.2f}, {one.high:+.2f}]"),
            "" if one.p is None else f"{one.p:.3f}",
            "" if one.p_holm is None else f"{one.p_holm:.3f}",
            one.verdict,
        ]
        for one in pairs
    ]
    return ["rules", column, "p", f"Holm of {len(pairs)}", "verdict"], rows


def as_text(plan: Selection, lines: list[dict], pairs: list[Difference], digest: str) -> str:
    """Both tables."""
    column = verdict_column(plan.study.protocol, list(lines[0]["mean"]))
    return (
        f"# What the rules of selection {digest} reached\n\n"
        "Test accuracy, %, the mean over data sets and seeds; H is of the mean accuracies. "
        "The selection was written before; no selection reads these numbers.\n\n"
        f"{markdown(*reached(lines))}\n\n"
        f"Differences of the rules in {column}, averaged over the methods, with 95% intervals over "
        f"the data sets:\n\n{markdown(*beside(pairs, column))}\n"
    )
