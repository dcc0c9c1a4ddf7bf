"""Plans of a selection: which settings are tried for which methods, by which rule, in which runs.

A plan has the axes of a sweep's study, and `search`: candidates as a grid of config keys. Its runs
train on the classes that the protocol trains on, and are tested on validation images of these
classes. No run reads the test part or new classes. docs/selection.md describes plans.
"""

import hashlib
import itertools
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dassl.names import did_you_mean
from dassl.record import Description
from tools import configs, inputs, plans
from tools.inputs import InputError
from tools.launchers import Job
from tools.plans import TAKEN, Plan, Study, check_given, job_of
from tools.protocols.base import PAIR
from tools.protocols.rows import harmonic

Metrics = Mapping[str, Mapping[str, float]]  # {part of the runs: metrics of its test}
Settings = dict[str, object]  # {config key: value}

NLL = "negative_log_likelihood"
WORST_GROUP = "worst_group_accuracy"  # the metric
GROUPS = "group"  # the protocol whose data sets have groups
WEIGHTS = tuple(f"TRAINER.CRAFT.LAMBDA_{name}" for name in ("STATIC", "STOCHASTIC", "MMD"))
TABLE, DATASET = ONE_FOR = ("table", "dataset")
ALL = "all"
# What a selection sets itself, so that its runs test validation images and nothing else.
FIXED = {
    "TEST.SPLIT": "val",
    "TEST.NO_TEST": "False",
    "TEST.METRICS": f"('{NLL}',)",
    "DATASET.VALIDATION": "whole",
    "DATASET.TARGET_LABELLED": "False",
    "DATASET.ALL_AS_UNLABELED": "False",
}
REFUSED = {
    "TEST.SPLIT": "a selection looks at validation images only",
    "TEST.NO_TEST": "a selection tests validation images",
    "TEST.METRICS": "a selection names the metrics of its rules itself",
    "DATASET.SUBSAMPLE_CLASSES": "a selection looks at the classes of its training only",
    "DATASET.FOLD": "the key folds makes folds",
    "DATASET.VALIDATION": "a selection takes the whole validation part",
    "DATASET.TARGET": "the key targets names targets",
    "DATASET.TARGET_LABELLED": "it trains with the labels of the target",
    "DATASET.ALL_AS_UNLABELED": "it may train on test images",
    "TEST.EVALUATOR": "a selection tests as its protocol and data set do",
    "MODEL.INIT_WEIGHTS": "nothing tells what such weights have seen",
}
# Groups of keys that make other data, or another CLIP, not other settings of a method.
NO_SETTING = ("DATASET.", "TEST.", "MODEL.BACKBONE.", "SELECTION.")


# Rules


@dataclass(frozen=True)
class Rule:
    """How candidates are compared.

    score: of the parts of the runs of a seed. sign: 1 if higher is better, else -1. parts: kinds of
    parts that it needs. words: the score, for tables.
    """

    words: str
    score: Callable[[Metrics], float]
    parts: tuple[str, ...] = ("trained",)
    sign: int = 1


def _accuracy(parts: Metrics) -> float:
    return parts["trained"]["accuracy"]


def _of_folds(parts: Metrics) -> float:
    """H of the mean accuracies on seen and on held-out classes, over the folds."""
    sides: dict[bool, list[float]] = {True: [], False: []}
    for part, metrics in parts.items():
        if part.startswith("fold"):
            sides[part.endswith("_unseen")].append(metrics["accuracy"])
    return harmonic(statistics.fmean(sides[False]), statistics.fmean(sides[True]))


RULES = {
    "accuracy": Rule("accuracy on validation images, %", _accuracy),
    "likelihood": Rule(
        "negative log likelihood of validation images, nats",
        lambda parts: parts["trained"][NLL],
        sign=-1,
    ),
    "folds": Rule(
        "H of seen and held-out base classes on validation images, %", _of_folds, ("fold",)
    ),
    "source": Rule("accuracy on validation images of the source, %", _accuracy),
    "target": Rule(
        "accuracy on validation images of the target, %",
        lambda parts: parts["target"]["accuracy"],
        ("trained", "target"),
    ),
    "worst_group": Rule(
        "worst-group accuracy on validation images, %",
        lambda parts: parts["trained"][WORST_GROUP],
    ),
}
USES_TARGET_LABELS, USES_GROUP_LABELS = "target", "worst_group"  # rules


# Methods and candidates


@dataclass(frozen=True)
class Method:
    """A trainer with its config, and the candidates for its settings by label, in listed order."""

    trainer: str
    config: str
    candidates: dict[str, Settings]

    @property
    def name(self) -> str:
        return f"{self.trainer}/{self.config}"

    @property
    def preset(self) -> str:
        return configs.split(self.trainer, self.config)[1]

    def selected(self, name: str) -> str:
        """The name of its selected config."""
        return configs.joined(name, self.preset)


def label_of(settings: Settings) -> str:
    """The name of a candidate's folder: its settings, or a digest of long or odd ones."""
    last = [key.rpartition(".")[2] for key in settings]
    names = last if len(set(last)) == len(last) else list(settings)
    text = ",".join(f"{name}={value}" for name, value in zip(names, settings.values(), strict=True))
    plain = re.sub(r"[^\w.,=+-]", "_", text)
    if plain == text and len(text) <= 150:
        return text
    return f"{plain[:100]}~{digest_of(settings)}"


def cell_name(dataset: str, target: str) -> str:
    """The name of what a choice looked at: a data set, or a source and its shifted domain."""
    return PAIR.format(source=dataset, target=target) if target else dataset


def digest_of(content: object) -> str:
    """12 hex digits that identify a JSON value."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """A run of a selection, and what it is for."""

    method: Method
    label: str
    cell: str  # data set, with its target
    part: str  # trained, target, fold1, fold1_unseen, ...
    job: Job


@dataclass
class Selection:
    """A plan, read. rule: the one whose choice is written, of `rules`."""

    path: str
    study: Study
    methods: list[Method]
    rules: list[str]
    rule: str
    folds: int
    one_for: str
    name: str
    notes: list[str]
    slurm: dict

    @property
    def budget(self) -> dict[str, int]:
        """{method: number of its candidates}."""
        return {method.name: len(method.candidates) for method in self.methods}

    @property
    def cells(self) -> dict[str, tuple[str, str]]:
        """{name: (data set, target)}."""
        pairs = itertools.product(self.study.datasets, self.study.targets or [""])
        return {cell_name(*pair): pair for pair in pairs}

    def groups(self) -> dict[str, list[str]]:
        """{what a choice is for: its cells}."""
        found: dict[str, list[str]] = {}
        for cell in self.cells:
            found.setdefault(self.group_of(cell), []).append(cell)
        return found

    def group_of(self, cell: str) -> str:
        """What the choice is for that a cell has a say in."""
        return TABLE if self.one_for == TABLE else cell

    def looked_at(self, rule: str) -> str:
        """What a rule looks at, as a clause."""
        study = self.study
        classes = "base classes" if study.protocol.subset == "base" else "classes trained on"
        images = f"validation images of the {classes}"
        if rule == "folds":
            images = f"validation images of both sides of {self.folds} folds of the base classes"
        elif rule in ("source", USES_TARGET_LABELS):
            images = f"validation images of the {rule}"
        elif rule == USES_GROUP_LABELS:
            images += " with their group labels"
        seeds = ", ".join(map(str, study.seeds))
        cut = study.overrides.get("DATASET.CUT")
        images += f" of cut {cut}" if cut else ""
        each = ", chosen for each data set by itself" if self.one_for == DATASET else ""
        return f"{images}, {', '.join(self.cells)}, {study.shots[0]} shots, seeds {seeds}{each}"

    @property
    def classes(self) -> str:
        """SELECTION.CLASSES of what is chosen."""
        return classes_of(self.study.protocol.subset, self.study.overrides.get("DATASET.CUT"))

    def described(self) -> dict:
        """The plan as JSON: two plans with the same description select the same."""
        study = self.study
        return {
            "protocol": study.protocol.name,
            "datasets": study.datasets,
            "targets": study.targets,
            "shots": study.shots[0],
            "seeds": study.seeds,
            "overrides": study.overrides,
            "search": {method.name: list(method.candidates.values()) for method in self.methods},
            "rules": self.rules,
            "rule": self.rule,
            "folds": self.folds if "folds" in self.rules else 0,
            "one_for": self.one_for,
            "name": self.name,
            "configs": {
                method.name: digest_of(configs.merged(configs.files(method.trainer, method.config)))
                for method in self.methods
            },
        }

    def sweep(self) -> Plan:
        """The runs as a plan of a sweep."""
        jobs, given = [run.job for run in self.runs()], frozenset(self.study.overrides)
        return Plan(self.path, jobs, dict(self.slurm), given=given)

    def runs(self) -> Iterator[Run]:
        """Each training, followed by the tests of its model."""
        for method in self.methods:
            for label, cell, seed in itertools.product(
                method.candidates, self.cells, self.study.seeds
            ):
                yield from self._runs(method, label, cell, seed)

    def _runs(self, method: Method, label: str, cell: str, seed: int) -> Iterator[Run]:
        """The trainings and tests of a candidate on a cell with a seed."""
        dataset, target = self.cells[cell]
        kinds = {kind for rule in self.rules for kind in RULES[rule].parts}
        run = Description(
            source=dataset,
            tested=dataset,
            subset=self.study.protocol.subset,
            trainer=method.trainer,
            structure=configs.structure_of(method.trainer),
            craft=method.preset,
            config=method.config,
            shots=str(self.study.shots[0]),
            seed=seed,
        )

        def made(part: str, run: Description, more: Settings, trained: str = "") -> Run:
            # No protocol's folders end so: no table takes these runs for its own.
            folder = f"{cell}/shots_{run.shots}/{method.name}/{label}/{part}/seed_{seed}"
            options = self._options(method, label) | more
            return Run(method, label, cell, part, job_of(folder, run, options, trained))

        if "trained" in kinds:
            unlabelled: Settings = {}
            if target:
                unlabelled["DATASET.TARGET"] = configs.registered(target)
            training = made("trained", replace(run, target=target), unlabelled)
            yield training
        if "target" in kinds:
            test = replace(run, part="test", tested=target, target=target)
            yield made("target", test, {}, training.job.folder)
        for number in range(1, self.folds + 1) if "fold" in kinds else ():
            fold: Settings = {"DATASET.FOLD": f"{number}/{self.folds}"}
            training = made(f"fold{number}", replace(run, subset="base_seen"), fold)
            yield training
            test = replace(run, part="test", subset="base_unseen")
            yield made(f"fold{number}_unseen", test, fold, training.job.folder)

    def _options(self, method: Method, label: str) -> Settings:
        """Config keys of all runs of a candidate; a selection's own win."""
        presets = self.study.protocol.presets.get(method.preset, {})
        return {**presets, **self.study.overrides, **method.candidates[label], **FIXED}


# Reading a plan

OWN = {
    "search": {},
    "rule": "",
    "choose": "",
    "folds": 4,
    "one_for": TABLE,
    "budget": "equal",
    "name": "selected",
    "slurm": {},
}
OF_STUDY = ("protocol", "datasets", "trainers", "targets", "shots", "craft", "seeds", "config")
KEYS = (*OF_STUDY, "overrides", *OWN)


def read(path: str) -> Selection:
    """A plan, checked as far as the configuration is not needed.

    Raises InputError naming the file and what is wrong.
    """
    where = f"plan '{path}'"
    tree = plans.read_tree(path)
    try:
        for key in tree:
            configs.check(key, KEYS, "key")
        own = {**OWN, **{key: tree.pop(key) for key in OWN if key in tree}}
        _check_keys(tree.get("overrides"), "overrides")
        study = plans.read_study({"protocol": "base2new", **tree}, where)
        _check_study(study)
        rules, rule = _rules(own, study)
        _check_words(own, study)
        methods = _methods(own["search"], study)
        notes = _budget(own["budget"], methods)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(where) else f"{where}: {text}") from None
    return Selection(
        path=path,
        study=study,
        methods=methods,
        rules=rules,
        rule=rule,
        folds=own["folds"],
        one_for=own["one_for"],
        name=own["name"],
        notes=notes,
        slurm=own["slurm"],
    )


def _check_keys(tree: object, where: str) -> None:
    """Raise InputError for a key with which a selection would look at test or new classes."""
    for key in tree if isinstance(tree, dict) else ():
        if key in REFUSED:
            raise InputError(f"{where} has {key}: {REFUSED[key]}; take it out")


def _check_study(study: Study) -> None:
    if study.protocol.has("study") or not study.protocol.train:
        raise InputError(
            f"protocol {study.protocol.name} has variants: select for base2new, whose settings "
            "its variants take"
        )
    if len(study.shots) != 1:
        raise InputError("shots has several values: write a plan for each")
    for trainer, _ in study.trainers:
        if not configs.learns(trainer):
            raise InputError(f"{trainer} learns nothing, so nothing can be selected: take it out")


def _rules(own: dict, study: Study) -> tuple[list[str], str]:
    """(rules to compute, the one whose choice is written)."""
    known = ["source", "target"] if study.targets else ["accuracy", "likelihood"]
    if study.protocol.subset == "base" and not study.targets:
        known.append("folds")
    if study.protocol.name == GROUPS:
        known.append(USES_GROUP_LABELS)
    rule, choose = own["rule"], own["choose"]
    if rule not in (*known, ALL):
        raise InputError(
            f"rule is {rule!r}: choose one of {', '.join(known)}, or all, for protocol "
            f"{study.protocol.name}"
        )
    if rule != ALL:
        if choose not in ("", rule):
            raise InputError(f"choose is {choose!r} with rule {rule}: take choose out")
        return [rule], rule
    if choose not in known:
        raise InputError(
            f"choose is {choose!r}: with rule all, name the rule whose choice is written, one of "
            f"{', '.join(known)}"
        )
    return known, choose


def _check_words(own: dict, study: Study) -> None:
    """Raise InputError for further keys with values that they may not have."""
    if type(own["folds"]) is not int or own["folds"] < 2:
        raise InputError(f"folds is {own['folds']!r}: write a whole number from 2")
    for key, known in (("one_for", ONE_FOR), ("budget", ("equal", "unequal"))):
        if own[key] not in known:
            raise InputError(f"{key} is {own[key]!r}: choose one of {', '.join(known)}")
    if not isinstance(own["name"], str) or not re.fullmatch(r"[\w+-][\w.+-]*", own["name"]):
        raise InputError(f"name is {own['name']!r}: use letters, digits, _ + - and .")
    if own["one_for"] == DATASET and len(study.targets) > 1:
        raise InputError("one_for is dataset with several targets: write a plan for each target")
    if not isinstance(own["slurm"], dict):
        raise InputError(f"slurm is {own['slurm']!r}: write 'key: value' pairs")


# The search


def _methods(search: object, study: Study) -> list[Method]:
    """The methods of the study with the candidates of their grids."""
    if not isinstance(search, dict) or not search:
        raise InputError("search is empty: write config keys with lists of values")
    shared = {key: value for key, value in search.items() if not isinstance(value, dict)}
    groups = {str(key): value for key, value in search.items() if isinstance(value, dict)}
    known: list[str] = []
    for trainer, config in study.trainers:
        known += [_kind(trainer), trainer, f"{trainer}/{config}"]
    for group in groups:
        if group not in known:
            raise InputError(
                f"search has the group '{group}': {did_you_mean(group, known)}groups are "
                f"{', '.join(dict.fromkeys(known))}"
            )
    methods, names = [], set()
    for trainer, config in study.trainers:
        grid = dict(shared)
        for group in (_kind(trainer), trainer, f"{trainer}/{config}"):
            grid |= groups.get(group, {})
        method = Method(trainer, config, _candidates(grid, f"{trainer}/{config}", study))
        if (trainer, method.preset) in names:
            raise InputError(f"trainers has two configs of {trainer}: write a plan for each")
        names.add((trainer, method.preset))
        methods.append(method)
    return methods


def _kind(trainer: str) -> str:
    """The group of `search` for methods with CRAFT, or for those without."""
    return "craft" if configs.has_craft(trainer) else "plain"


def _candidates(grid: dict, method: str, study: Study) -> dict[str, Settings]:
    """{label: settings} of a grid {keys: values}; keys joined by a comma take the same value."""
    axes: list[list[Settings]] = []
    seen: set[str] = set()
    for text, values in grid.items():
        keys = [key.strip() for key in str(text).split(",")]
        _check_searched(keys, seen, study.overrides)
        seen.update(keys)
        values = values if isinstance(values, list) else [values]
        check_given(f"search: {text}", values)
        if not values:
            raise InputError(f"search has no value for {text}: write one value or more")
        axes.append([dict.fromkeys(keys, value) for value in values])
    candidates: dict[str, Settings] = {}
    for parts in itertools.product(*axes):
        settings = {key: value for part in parts for key, value in part.items()}
        if label_of(settings) in candidates:
            raise InputError(f"search has {label_of(settings)} twice for {method}: take one out")
        candidates[label_of(settings)] = settings
    if not seen:
        raise InputError(f"search has no key for {method}: add one, or take the method out")
    return candidates


def _check_searched(keys: list[str], seen: set[str], overrides: dict) -> None:
    """Raise InputError for a key that cannot be searched, or that has a value already."""
    _check_keys(dict.fromkeys(keys), "search")
    for key in keys:
        if key in seen:
            raise InputError(f"search has {key} twice: write all its values in one list")
        if key in TAKEN:
            raise InputError(f"search has {key}, which is not searched: {TAKEN[key]}")
        if key.startswith(NO_SETTING) and key != "DATASET.TEMPLATE":
            raise InputError(
                f"search has {key}, which is no setting of a method: put it into overrides, or "
                "take it out"
            )
        if key in overrides:
            raise InputError(
                f"search has {key}, which overrides sets to {overrides[key]}: take it out of one"
            )


def _budget(word: str, methods: list[Method]) -> list[str]:
    """Notes on unequal budgets. Raises InputError if the plan does not allow them."""
    counts = {method.name: len(method.candidates) for method in methods}
    if len(set(counts.values())) == 1:
        return []
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    if word != "unequal":
        raise InputError(
            f"the methods have different numbers of candidates ({text}): give all the same "
            "budget, or write 'budget: unequal', which tables will tell"
        )
    return [f"the methods had different budgets of candidates: {text}"]


def classes_of(subset: str, cut: object) -> str:
    """Classes in words: all, base, or base of a random cut."""
    return f"{subset} (cut {cut})" if subset != "all" and int(str(cut or 0)) else subset


def stored_in(output: str) -> Path:
    """The file that a selection writes last."""
    return Path(output, inputs.OF_A_SELECTION[0])


def table_in(output: str) -> Path:
    """The table of a selection, for people."""
    return Path(output, inputs.OF_A_SELECTION[1])
