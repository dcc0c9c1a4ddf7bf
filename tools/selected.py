"""What tables tell of how the settings of rows were chosen, and what the rows learned from."""

import json
from collections.abc import Iterable

from dassl import identity, record
from tools import configs
from tools.inputs import InputError
from tools.protocols.rows import Row
from tools.selection import cell_name, classes_of

NOTHING = "nothing looked at test or new classes"
ELSEWHERE = NOTHING + " of these sets, and the rows are of another one"
TARGET = "uses target labels; nothing looked at test images"
OTHER_DATA = "looked at another version of this table's data, so perhaps at test images of it"
PRESET = ", but for CRAFT's options, which are those of the preset {}"
OTHERS = "looked at {} classes, so perhaps at new ones of this table; nothing looked at test images"


def notes(rows: Iterable[Row]) -> list[str]:
    """Sentences on the rows that learned: one for each rule, and for what rows learned from.

    Where a row is selected, the others are told, too.
    """
    rows = [row for row in rows if row.learns and row.first]
    by_rule: dict[str, list[str]] = {}
    for row in rows:
        by_rule.setdefault(_rule(row), []).append(row.name)
    marks: dict[str, list[str]] = {}
    for row in rows:
        for mark in _marks(row):
            marks.setdefault(mark, []).append(row.name)
    selected = [text for text in by_rule if text]
    sentences = [f"settings of {_names(by_rule[text])}: selected by {text}" for text in selected]
    # A file that starts from a selected one may say that it was not selected itself.
    if selected or any(_flat(row).get("SELECTION.DIGEST") for row in rows):
        for row in rows:
            if not _rule(row):
                marks.setdefault(_origin(row), []).append(row.name)
    return sentences + [f"{mark}: {_names(names)}" for mark, names in marks.items()]


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _flat(row: Row) -> dict:
    """{key: value} of the configurations of a row's runs, those of one column."""
    return record.flat(next(iter(row.first.values()))["config"])


def _rule(row: Row) -> str:
    """How tools.select chose a row's settings, as a clause; "" if it did not.

    Runs of one row that differ in this are told by all of their rules.
    """
    config = _flat(row)
    groups = [json.loads(text) for text in sorted(row.selections)] or [{}]
    clauses = [
        _clause(row, config | {f"SELECTION.{name}": one for name, one in group.items()})
        for group in groups
    ]
    if len(groups) == 1:
        return clauses[0]
    return "several rules: " + "; or by ".join(clause or "no selection" for clause in clauses)


def _clause(row: Row, config: dict) -> str:
    """How one group SELECTION says that settings were chosen; "" if they were not."""
    rule = config.get("SELECTION.RULE")
    if not rule:
        return ""
    seen = NOTHING if _is_of(row, config) else ELSEWHERE
    if rule == "target":
        seen = TARGET
    if (others := config.get("SELECTION.CLASSES")) and _tests_new(row, others):
        seen = OTHERS.format(others)
    if _on_other_data(row, config):
        seen = OTHER_DATA
    preset = "" if _chosen_as_it_is(row) else PRESET.format(row.craft)
    return (
        f"{rule} on {config['SELECTION.ON']}, from {config['SELECTION.BUDGET']} candidates "
        f"(selection {config['SELECTION.DIGEST']}){preset}{_changed(row, config)}; {seen}"
    )


def _chosen_as_it_is(row: Row) -> bool:
    """Whether the selection chose CRAFT's options, too: no preset lies over what it chose."""
    trainer, config = _pair(row)
    return row.craft in ("", configs.DEFAULT) or config in configs.stems(f"trainers/{trainer}")


def _is_of(row: Row, config: dict) -> bool:
    """Whether the selection looked at the data set that a row was trained on, as far as known.

    Another one may hold some of its images.
    """
    named = str(config["SELECTION.ON"]).split(", ")
    run = row.run
    return not run or run.source in named or cell_name(run.source, run.target) in named


def _on_other_data(row: Row, config: dict) -> bool:
    """Whether a run has another version of a data set than the selection looked at."""
    known = config.get("SELECTION.DATA") or []
    return any(
        identity.other_versions(known, record.data_of(results)) for results in row.first.values()
    )


def _changed(row: Row, config: dict) -> str:
    """A clause on settings that differ from the config's file, such as those of an ablation."""
    try:
        changed = configs.changed(*_pair(row), config, ("OPTIM.", "TRAINER."))
    except InputError:
        return ""
    return "".join(f", but for {key} {config[key]}" for key in changed)


def _pair(row: Row) -> tuple[str, str]:
    """Trainer and config: of an ablation, whose rows are named by variants, the run has them."""
    return (row.run.trainer, row.run.config) if row.run else (row.trainer, row.config)


def _tests_new(row: Row, looked_at: str) -> bool:
    """Whether a row was tested on new classes, and `looked_at` are not the base classes to them."""
    configurations = [record.flat(results["config"]) for results in row.first.values()]
    return any(
        config.get("DATASET.SUBSAMPLE_CLASSES") == "new"
        and looked_at != classes_of("base", config.get("DATASET.CUT"))
        for config in configurations
    )


def _origin(row: Row) -> str:
    """Where the settings of a row are from that no selection chose."""
    try:
        file = configs.files(*_pair(row))[0]
        bundled = configs.backbone_of(file) == configs.bundled_backbone()
    except InputError:
        return "settings of a file of one's own"
    return "settings that come with the bundled suite" if bundled else "published settings"


def _marks(row: Row) -> list[str]:
    """What a row learned from beside the labelled images of its source."""
    marks = []
    configurations = [record.flat(results["config"]) for results in row.first.values()]
    if any(config.get("DATASET.TARGET_LABELLED") for config in configurations):
        marks.append("uses target labels")
    config, run = configurations[0], row.run
    compares = config.get("TRAINER.CRAFT.MMD.DOMAINS") == "unlabelled"
    weight = config.get("TRAINER.CRAFT.LAMBDA_MMD") or 0
    shifted = run and (run.target or config.get("DATASET.TARGET_DOMAINS"))
    if run and shifted and run.craft and run.subset == "all" and compares and weight > 0:
        marks.append("transductive, trained on unlabelled images of the target's classes")
    return marks
