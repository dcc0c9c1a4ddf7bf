"""Honest selection of settings: `python -m tools.select PLAN.yaml [options]`.

Runs the candidates of a plan (docs/selection.md) on training and validation images of the classes
that are trained on, chooses by the plan's rule, and writes below --output: selection.json (what was
tried, seen and chosen), selection.md (a table of it) and selected/<trainer>/<name>.yaml, the chosen
configs. Nothing looks at the test part or at new classes. --judge then tests what each rule chose;
no selection reads what it writes. Run the same command again after anything: it goes on.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Container
from pathlib import Path

import yaml
from yacs.config import CfgNode

from dassl import files, identity, record
from tools import configs, inputs, judge, selection
from tools.arguments import Parser
from tools.configs import ROOT
from tools.effects import reads
from tools.inputs import InputError
from tools.results import markdown
from tools.selection import (
    NO_SETTING,
    RULES,
    TABLE,
    USES_GROUP_LABELS,
    WEIGHTS,
    WORST_GROUP,
    Method,
    Run,
    Selection,
    digest_of,
    stored_in,
    table_in,
)
from tools.sweep import Sweep, add_folders, add_numbers, check_numbers, stoppable

# Ends of the sentences about a loss or scores that the steps of a run made infinite.
TOO_FAR = ("lower OPTIM.LR", "lower the weights of the loss terms")
CLOSE = 9  # digits behind the point: scores that agree in them are equal
Scores = dict[str, dict[str, dict[str, dict[int, float]]]]  # {rule: {label: {cell: {seed: ...}}}}
Lost = Container[tuple[str, str, str]]  # (method, label, group) that diverged


# Checks that need the configuration


def checked(plan: Selection, runs: Sweep) -> dict[str, str]:
    """The CLIP of a plan: {"name", "content": SHA-256 of its file, or the name}.

    Adds notes on CRAFT's weights to the plan. Raises InputError, naming the plan, for a key that a
    method does not read, for two candidates that are one run, for a data set that does not keep
    validation and test apart, and for several CLIPs.
    """
    from dassl.engine import run_settings

    cfgs: dict[str, dict[str, CfgNode]] = defaultdict(dict)
    counted: dict[str, int] = {}
    for run in plan.runs():
        cfgs[run.method.name].setdefault(run.label, runs.configuration(run.job))
        _check_data(plan, runs.configuration(run.job), counted)
    _check_reads(plan, cfgs)
    clips = {}
    for method in plan.methods:
        known: dict[str, str] = {}
        for label, cfg in cfgs[method.name].items():
            settings = run_settings(cfg)
            clips[cfg.MODEL.BACKBONE.NAME] = settings["MODEL.BACKBONE.NAME"]
            if (other := known.setdefault(repr(sorted(settings.items())), label)) != label:
                raise InputError(
                    f"plan '{plan.path}': the candidates '{other}' and '{label}' of {method.name} "
                    "are the same run: take one of them out"
                )
        plan.notes += _without_zero(method, list(cfgs[method.name].values()))
    if len(clips) > 1:
        raise InputError(
            f"plan '{plan.path}': the methods have several CLIPs ({', '.join(sorted(clips))}): "
            "write a plan for each, and select in an output folder of its own"
        )
    ((name, content),) = clips.items()
    return {"name": name, "content": content}


def _check_reads(plan: Selection, cfgs: dict[str, dict[str, CfgNode]]) -> None:
    """Raise InputError for a searched key that a method does not read."""
    for method in plan.methods:
        for key in next(iter(method.candidates.values())):
            readers = [
                name for name, own in cfgs.items() if any(reads(cfg, key) for cfg in own.values())
            ]
            if not readers:
                raise InputError(
                    f"plan '{plan.path}': search has {key}, which no method of the plan reads: "
                    "take it out"
                )
            if method.name not in readers:
                raise InputError(
                    f"plan '{plan.path}': search has {key} for {method.name}, which does not read "
                    f"it: write it below those that do, {', '.join(readers)}"
                )


def _check_data(plan: Selection, cfg: CfgNode, known: dict[str, int]) -> None:
    """Raise InputError for a data set that does not know DATASET.VALIDATION, for one without
    groups where the rule needs them, and for folds that leave too few of its classes on a side.
    """
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.errors import UserError
    from dassl.evaluation import EVALUATOR_REGISTRY
    from datasets.base import FOLDED, CoOpDataset, chosen_labels

    kind = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if not issubclass(kind, CoOpDataset):
        raise InputError(
            f"plan '{plan.path}': data set {cfg.DATASET.NAME} is no CoOpDataset, so nothing keeps "
            "its validation apart from its test: derive its class from datasets.base.CoOpDataset"
        )
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    gives = getattr(evaluator, "higher_is_better", ())
    if USES_GROUP_LABELS in plan.rules and WORST_GROUP not in gives:
        raise InputError(
            f"plan '{plan.path}': the rule {USES_GROUP_LABELS} needs groups, and nothing tests "
            f"those of {cfg.DATASET.NAME}: set TEST.EVALUATOR GroupClassification in its config, "
            "or choose another rule"
        )
    if cfg.DATASET.FOLD and (count := _classes(cfg, known)):
        try:
            chosen_labels(range(count), FOLDED[0], cfg.DATASET.FOLD, cfg.DATASET.CUT)
        except UserError as error:
            raise InputError(f"plan '{plan.path}': {cfg.DATASET.NAME}: {error}") from None


def _classes(cfg: CfgNode, known: dict[str, int]) -> int:
    """Number of classes of a data set; 0 for one that cannot be loaded, as its runs will say.

    known: those counted so far, by the data set's options.
    """
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.errors import UserError

    kind = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if kind.classes:  # published
        return kind.classes
    whole = cfg.clone()
    whole.defrost()
    whole.DATASET.FOLD, whole.DATASET.SUBSAMPLE_CLASSES, whole.DATASET.NUM_SHOTS = "", "all", -1
    if (key := whole.DATASET.dump()) not in known:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                known[key] = kind(whole).num_classes
        except UserError:
            known[key] = 0
    return known[key]


def _without_zero(method: Method, cfgs: list[CfgNode]) -> list[str]:
    """A note, if CRAFT's weights are above 0 in all candidates of a method."""

    def weights(cfg: CfgNode) -> list[float]:
        return [cfg.TRAINER.CRAFT[key.rpartition(".")[2]] for key in WEIGHTS]

    if not method.preset or any(not any(weights(cfg)) for cfg in cfgs):
        return []
    return [
        f"{method.name} has no candidate with all of CRAFT's weights 0, which is the baseline, so "
        "the selection cannot find that CRAFT does not help"
    ]


def check_earlier(plan: Selection, output: str, clip: dict[str, str]) -> dict:
    """The selection that `output` holds, {} without one.

    Raises InputError if it was made with another CLIP or by another plan.
    """
    path = stored_in(output)
    stored = record.peek(path)
    if not stored:
        return {}
    theirs = stored.get("clip") or {}
    if theirs.get("content") != clip["content"]:
        raise InputError(
            f"'{path}' was selected with another CLIP ('{theirs.get('name')}', "
            f"{str(theirs.get('content'))[:12]}) than the plan's ('{clip['name']}', "
            f"{clip['content'][:12]}): choose another --output"
        )
    before, now = stored.get("plan") or {}, _as_json(plan.described())
    different = sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
    if different:
        raise InputError(
            f"'{path}' holds the selection of a plan with other {', '.join(different)}: choose "
            "another --output, since a selection is made once"
        )
    return stored


def _as_json(content: dict) -> dict:
    """A tree as it is after it was written and read."""
    return json.loads(json.dumps(content))


# Scores


def diverged(plan: Selection, runs: Sweep) -> set[tuple[str, str, str]] | None:
    """(method, label, group) of candidates with a run whose steps left the finite numbers.

    Such a candidate is the worst of those among which a group chooses, and nothing of it has to be
    waited for there. None if other runs are not done.
    """
    lost, missing = set(), set()
    for run in plan.runs():
        state, note = runs.states[run.job.folder]
        candidate = (run.method.name, run.label, plan.group_of(run.cell))
        if state == "failed" and any(sign in note for sign in TOO_FAR):
            lost.add(candidate)
        elif state != "done":
            missing.add(candidate)
    return None if missing - lost else lost


def read_runs(plan: Selection, output: str, lost: Lost = ()) -> list[tuple[Run, dict]]:
    """(run, record) of all runs but those of the candidates in `lost`.

    Raises InputError for a run that tested other than validation images.
    """
    found = []
    for run in plan.runs():
        if (run.method.name, run.label, plan.group_of(run.cell)) in lost:
            continue
        path = Path(output, "runs", run.job.folder, record.NAME)
        try:
            results = record.read(path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"'{path}' cannot be read ({error}): run the selection again"
            ) from None
        if list(results["metrics"]) != ["val"]:
            raise InputError(
                f"'{path}' has metrics of {', '.join(results['metrics']) or 'nothing'}, where a "
                "selection has those of val only: delete its folder and run the selection again"
            )
        found.append((run, results))
    return found


def scores(plan: Selection, method: Method, runs: list[tuple[Run, dict]]) -> Scores:
    """The score of each candidate of a method by each rule, on each cell with each seed.

    Where a candidate diverged it has none.
    """
    parts: dict[tuple[str, str, int], dict] = defaultdict(dict)
    for run, results in runs:
        if run.method == method:
            parts[run.label, run.cell, run.job.seed][run.part] = results["metrics"]["val"]
    return {
        rule: {
            label: {
                cell: {
                    seed: RULES[rule].score(parts[label, cell, seed]) for seed in plan.study.seeds
                }
                for cell in plan.cells
                if (label, cell, plan.study.seeds[0]) in parts
            }
            for label in method.candidates
        }
        for rule in plan.rules
    }


def mean(of: dict[str, dict[int, float]], cells: list[str]) -> float:
    """The mean over cells and seeds, in which every cell weighs the same."""
    return statistics.fmean(statistics.fmean(of[cell].values()) for cell in cells)


def choose(plan: Selection, method: Method, known: Scores) -> dict[str, dict[str, str]]:
    """{rule: {what for: label of the best candidate}}; of equal ones the first listed.

    Raises InputError if all candidates diverged.
    """
    chosen: dict[str, dict[str, str]] = {rule: {} for rule in plan.rules}
    for rule, (group, cells) in itertools.product(plan.rules, plan.groups().items()):
        means = {
            label: round(RULES[rule].sign * mean(of, cells), CLOSE)
            for label, of in known[rule].items()
            if of.keys() >= set(cells)
        }
        if not means:
            where = "" if group == TABLE else f" on {group}"
            raise InputError(
                f"plan '{plan.path}': no candidate of {method.name} kept a finite loss{where}: "
                "search lower values of OPTIM.LR"
            )
        chosen[rule][group] = max(means, key=means.__getitem__)
    return chosen


# What is written


def report(plan: Selection, output: str, clip: dict[str, str], lost: Lost = ()) -> dict:
    """The content of selection.json, without its digest. lost: candidates that diverged."""
    runs = read_runs(plan, output, lost)
    data: dict[str, dict | None] = {}
    versions: list[dict | None] = []
    for run, results in runs:
        data.setdefault(run.job.run.tested, results.get("data"))
        if results.get("versions") not in versions:
            versions.append(results.get("versions"))
    content = {
        "plan": plan.described(),
        "rule": plan.rule,
        "looked_at": {rule: plan.looked_at(rule) for rule in plan.rules},
        "uses_target_labels": plan.rule == selection.USES_TARGET_LABELS,
        "ties": "of candidates with equal scores the one that is listed first",
        "notes": plan.notes,
        "budget": plan.budget,
        "clip": clip,
        "data": data,
        "versions": versions,
        "methods": [_tried(plan, method, runs) for method in plan.methods],
        "runs": [
            {
                "folder": f"runs/{run.job.folder}",
                "config_hash": results["config_hash"],
                **results["metrics"]["val"],
            }
            for run, results in runs
        ],
    }
    return _as_json(content)


def _tried(plan: Selection, method: Method, runs: list[tuple[Run, dict]]) -> dict:
    """The candidates of a method with their scores, and what each rule chose."""
    known = scores(plan, method, runs)
    candidates = [
        {
            "label": label,
            "settings": settings,
            "scores": {rule: known[rule][label] for rule in plan.rules},
        }
        for label, settings in method.candidates.items()
    ]
    return {
        "trainer": method.trainer,
        "config": method.config,
        "candidates": candidates,
        "chosen": choose(plan, method, known),
    }


def write(plan: Selection, content: dict, output: str) -> None:
    """Write the configs and the table, then selection.json: without it there is no selection."""
    digest = digest_of(content)
    data = identity.told(content["data"].values())
    for method, stored in zip(plan.methods, content["methods"], strict=True):
        for group, label in stored["chosen"][plan.rule].items():
            below = "" if group == TABLE else plan.cells[group][0]
            name = f"{method.selected(plan.name)}.yaml"
            path = Path(output, "selected", below, method.trainer, name)
            inputs.write(
                path,
                config_text(plan, method, label, content["clip"], data, digest),
                "--output",
            )
    inputs.write(table_in(output), as_markdown(plan, content, digest), "--output")
    text = json.dumps({**content, "digest": digest}, indent=1) + "\n"
    inputs.write(stored_in(output), text, "--output")


def config_text(
    plan: Selection,
    method: Method,
    label: str,
    clip: dict[str, str],
    data: list[str],
    digest: str,
) -> str:
    """A config file of a chosen candidate: whole, so that it may be moved."""
    from dassl.config import counts

    tree = configs.merged(configs.files(method.trainer, method.config))
    kept = {
        key: value
        for key, value in plan.study.overrides.items()
        if counts(key) and (not key.startswith(NO_SETTING[:1]) or key == "DATASET.TEMPLATE")
    }
    node = {
        "SELECTION.RULE": plan.rule,
        "SELECTION.ON": plan.looked_at(plan.rule),
        "SELECTION.CLASSES": plan.classes,
        "SELECTION.BUDGET": len(method.candidates),
        "SELECTION.CLIP": clip["content"],
        "SELECTION.DATA": data,
        "SELECTION.DIGEST": digest,
    }
    for key, value in {**kept, **method.candidates[label], **node}.items():
        *groups, last = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    head = f"# {method.name} with the settings that tools.select chose, written by it.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def as_markdown(plan: Selection, content: dict, digest: str) -> str:
    """A table of the candidates for a person; what each rule chose is bold."""
    lines = [
        f"# Selection {digest}",
        "",
        f"Written: the choice by {plan.rule}. No run looked at test images or at new classes.",
        "",
        *(f"* {rule}: {text}." for rule, text in content["looked_at"].items()),
        f"* CLIP: {content['clip']['name']} ({content['clip']['content'][:12]}).",
        f"* Ties: {content['ties']}.",
        *(f"* Note: {note}." for note in plan.notes),
    ]
    for method, stored in zip(plan.methods, content["methods"], strict=True):
        columns = [(rule, group) for rule in plan.rules for group in plan.groups()]
        head = ["settings", *(r if g == TABLE else f"{r}, {g}" for r, g in columns)]
        rows = []
        for candidate in stored["candidates"]:
            settings = candidate["settings"].items()
            cells = [", ".join(f"{key} {value}" for key, value in settings)]
            for rule, group in columns:
                text = "diverged"
                known, own = candidate["scores"][rule], plan.groups()[group]
                if known.keys() >= set(own):
                    digits = 4 if RULES[rule].sign < 0 else 2
                    text = f"{mean(known, own):.{digits}f}"
                best = stored["chosen"][rule][group] == candidate["label"]
                cells.append(f"**{text}**" if best else text)
            rows.append(cells)
        lines += ["", f"## {method.name}", "", markdown(head, rows)]
    words = [
        f"* {rule}: {RULES[rule].words}, the mean over data sets and seeds." for rule in plan.rules
    ]
    return "\n".join([*lines, "", "Columns:", "", *words, ""])


# The command


def select(args: argparse.Namespace) -> int:
    """0; 1 if runs failed. Raises InputError for bad input."""
    path, root, output = map(files.absolute, (args.plan, args.root, args.output))
    os.chdir(ROOT)  # configs name files from here
    check_numbers(args)
    plan = selection.read(path)
    runs = Sweep(plan.sweep(), root, str(Path(output, "runs")))
    clip = checked(plan, runs)
    stored = check_earlier(plan, output, clip)
    for note in plan.notes:
        sys.stdout.write(f"note: {note}\n")
    if args.judge:
        return judge.judge(plan, stored, root, output, args)
    runs.refuse_others()
    if args.list:
        sys.stdout.write(runs.listing())
        return 0
    code = runs.launch(args.launch, args.jobs, args.retries)
    lost = diverged(plan, runs)
    if lost is None:
        return code
    content = report(plan, output, clip, lost)
    write(plan, content, output)
    sys.stdout.write(table_in(output).read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.select",
        allow_abbrev=False,
    )
    parser.add_argument(
        "plan",
        type=os.path.expanduser,
        metavar="PLAN.yaml",
        help="e.g. configs/selections/suite.yaml",
    )
    parser.add_argument(
        "--list", action="store_true", help="show which runs are done, running, failed, missing"
    )
    parser.add_argument(
        "--judge",
        action="store_true",
        help="after the selection: test what each rule chose on base and new classes",
    )
    parser.add_argument(
        "--launch",
        choices=("local", "slurm"),
        default="local",
        help="where the runs are made (default local)",
    )
    add_numbers(parser)
    add_folders(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: selected; 1: runs failed; 2: bad input, in one sentence; 130: Ctrl-C."""
    with stoppable():
        return inputs.main(
            select,
            _parser().parse_args(arguments),
            interrupted="interrupted: run the same command again to go on",
        )


if __name__ == "__main__":
    sys.exit(main())
