"""Plans: axes (data sets, trainers, shots, seeds) of a protocol -> jobs, i.e. runs of train.py.

A plan of configs/sweeps is a list of studies. A script asks for one study. docs/sweeps.md describes
plans.
"""

import datetime
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from dassl import record, strict_yaml
from dassl.config import rules
from dassl.errors import UserError
from dassl.record import Description
from tools import configs
from tools.inputs import InputError
from tools.launchers import Job
from tools.protocols import PROTOCOLS, Protocol

# Axis: what its values are. A value may stand alone for a list of one.
AXES: dict[str, type | tuple[type, ...]] = {
    "datasets": str,
    "tests": str,
    "targets": str,
    "shots": (int, str),
    "craft": (bool, str),
    "seeds": int,
}
DEFAULTS = {
    "name": "",
    "tests": [],
    "targets": [],
    "shots": [16],
    "craft": [False],
    "seeds": [1, 2, 3],
    "config": "",
    "selection": "",
    "repeat_errors_of": "",
    "overrides": {},
    "train_overrides": {},
}
KEYS = ("protocol", "datasets", "trainers", *DEFAULTS)
TYPED = (
    "shots",
    "seeds",
    "craft",
    "folds",
)  # keys whose values are no text, whatever they look like
# Config keys that decide whether there is a result for the tables.
TESTED = {
    "TEST.SPLIT": "tables have results on the test part only; train.py tests other images",
    "TEST.NO_TEST": "tables need the test of each run",
}
# Config keys that plans and scripts set by other means, and which. The last one is declared by
# `datasets`, whose import takes torch; a test compares.
TAKEN = {name: key.set_by for name, key in rules.KEYS.items() if key.set_by} | TESTED
TAKEN["DATASET.SUBSAMPLE_CLASSES"] = "set it by protocol"


@dataclass
class Plan:
    """Jobs in the order to run them, the protocols that they are of, and options for Slurm.

    given: the config keys that a user wrote: no protocol's, which fit some of its trainers only.
    """

    path: str
    jobs: list[Job]
    slurm: dict
    protocols: list[str] = field(default_factory=list)
    given: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        return Path(self.path).stem


@dataclass
class Study:
    """The product of its axes, all of one protocol.

    trainers: (trainer, config) pairs. target: "" for protocols without unlabelled images.
    overrides: config keys of all runs; train_overrides: of trainings only. name: the folder above
    the protocol's; an ablation's variant. selection: the folder of a selection (`tools.select`),
    from which the configs of what learns are taken. repeat_errors_of: the config of JTT's first
    runs, whose errors on their training images the study's trainings repeat.
    """

    protocol: Protocol
    datasets: list[str]
    trainers: list[tuple[str, str]]
    shots: list
    seeds: list[int]
    tests: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    overrides: dict = field(default_factory=dict)
    train_overrides: dict = field(default_factory=dict)
    name: str = ""
    selection: str = ""
    repeat_errors_of: str = ""

    def jobs(self) -> Iterator[Job]:
        """Each training, followed by its tests."""
        targets = self.targets or [""]
        axes = (self.datasets, targets, self.shots, self.trainers, self.seeds)
        for dataset, target, shots, (trainer, config), seed in itertools.product(*axes):
            run = Description(
                protocol=self.protocol.trained_as or self.protocol.name,
                study=self.name,
                part="train",
                source=dataset,
                tested=dataset,
                target=target,
                subset=self.protocol.subset,
                trainer=trainer,
                structure=configs.structure_of(trainer),
                craft=configs.split(trainer, config)[1],
                learns=configs.learns(trainer),
                config=config,
                shots=str(shots),
                seed=seed,
            )
            yield from self._jobs(run)

    def _jobs(self, run: Description) -> Iterator[Job]:
        """A training, or for what learns nothing a test in its place, and its tests."""
        protocol = self.protocol
        preset = dict(protocol.presets.get(run.craft, {}))
        unlabelled = {"DATASET.TARGET": configs.registered(run.target)} if run.target else {}
        files: tuple[str, ...] = ()
        if self.selection and run.learns:
            files = (configs.selected(self.selection, run.source, run.trainer, run.config),)
            chosen = record.flat(configs.merged([files[0]]))
            _check_kept(files[0], chosen, {**self.overrides, **self.train_overrides})
            preset = {key: value for key, value in preset.items() if key not in chosen}
        overrides = {**preset, **self.overrides}
        folder = protocol.folder(run)
        of_training = overrides | self.train_overrides | unlabelled
        training = job_of(folder, run, of_training, files=files)
        if self.repeat_errors_of and run.learns:
            first, errors = self._first(run, of_training)
            yield from (first, errors)
            training = replace(training, repeats=errors.folder)
        yield training
        tests = [(run.tested, subset) for subset in protocol.others]
        for dataset in self.tests or filter(None, [run.target]):
            tests += [(dataset, subset) for subset in protocol.elsewhere]
        for tested, subset in tests:
            test = replace(run, protocol=protocol.name, part="test", tested=tested, subset=subset)
            trained = training.folder if run.learns else ""
            options = {**overrides, **protocol.tested_with}
            yield job_of(protocol.folder(test), test, options, trained, files)

    def _first(self, run: Description, options: dict) -> tuple[Job, Job]:
        """JTT's first run, and the test of its model on the images that it was trained on."""
        run = replace(run, config=configs.joined(self.repeat_errors_of, run.craft))
        first = job_of(self.protocol.folder(run), run, options)
        # No protocol's folders end so: no table takes these tests for its own.
        folder = f"errors/{first.folder.removesuffix(f'seed{run.seed}')}seed_{run.seed}"
        tested = replace(run, protocol="", part="test")
        return first, job_of(folder, tested, {**options, "TEST.SPLIT": "train"}, first.folder)


def _check_kept(file: str, chosen: dict, overrides: dict) -> None:
    """Raise InputError if overrides change a setting of a selected config: none would tell it."""
    for key, value in overrides.items():
        setting = key.startswith(("OPTIM.", "TRAINER.")) and key in chosen
        if setting and str(value) != str(chosen[key]):
            raise InputError(
                f"overrides has {key} {value}, but '{file}' was selected with {chosen[key]}: take "
                "the key out of overrides, or select with it in the plan's overrides"
            )


def job_of(
    folder: str,
    run: Description,
    overrides: dict,
    trained: str = "",
    files: tuple[str, ...] = (),
) -> Job:
    """A run in `folder`, with options as on the command line.

    trained: folder of the model's training. files: configs of a selection.
    """
    settings = {
        **overrides,
        "DATASET.NUM_SHOTS": -1 if run.shots == "all" else run.shots,
        "DATASET.SUBSAMPLE_CLASSES": run.subset,
    }
    options = [word for key, value in settings.items() for word in (key, str(value))]
    return Job(
        folder,
        run.tested,
        run.trainer,
        run.config,
        run.seed,
        tuple(options),
        test=run.part == "test" or not run.learns,
        trained=trained,
        files=files,
        run=run,
    )


# Plans


def read_plan(path: str, pairs: Sequence[str] = (), **changes) -> Plan:
    """A plan, expanded.

    pairs: KEY VALUE ... for every run, or slurm.OPTION VALUE. changes: keys at the top, instead of
    the plan's. Raises InputError naming the file and what is wrong.
    """
    tree = {**read_tree(path), **changes}
    where = f"plan '{path}'"
    slurm = _mapping(tree.pop("slurm", {}), f"{where}: slurm")
    options = {}
    for key, value in key_values(pairs):
        if key.lower().startswith("slurm."):
            slurm[key[6:].lower()] = _yaml_value(key, value)
        else:
            options[key] = value
    studies = tree.pop("studies", [{}])
    if not isinstance(studies, list) or not studies:
        raise InputError(f"{where}: studies is {studies!r}: write a list, each beginning with '- '")
    jobs: dict[str, Job] = {}
    protocols: dict[str, None] = {}
    given: set[str] = set()
    for number, keys in enumerate(studies, 1):
        here = where if studies == [{}] else f"{where}, study {number}"
        study = _study(_merged(tree, {} if keys is None else keys, options, where, here), here)
        protocols[study.protocol.name] = None
        given |= {*study.overrides, *study.train_overrides}
        for job in study.jobs():
            if jobs.setdefault(job.folder, job) != job:
                raise InputError(
                    f"{here}: two jobs with different options would write to the same folder "
                    f"'{job.folder}': give one of their studies a name"
                )
    return Plan(path, list(jobs.values()), slurm, list(protocols), frozenset(given))


def key_values(words: Sequence[str]) -> list[tuple[str, str]]:
    """`rules.key_values`, which raises InputError here."""
    try:
        return rules.key_values(words)
    except UserError as error:
        raise InputError(str(error)) from None


def read_tree(path: str) -> dict:
    """The keys of a plan's file. Raises InputError if it cannot be read or holds none."""
    where = f"plan '{path}'"
    try:
        tree = strict_yaml.load(Path(path).read_text(encoding="utf-8"), scalars=True)
        tree = _as_meant(tree, where)
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error.strerror}): give a file such as "
            "configs/sweeps/suite.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{where} holds no 'key: value' pairs: see docs/sweeps.md")
    return _mapping(tree, where)


def _as_meant(value, where: str, key: str = ""):
    """A tree without the texts that its scalars come with.

    Which keys take text is not known here: trainers declare theirs, whose import takes torch.
    Raises InputError for numbers and words that YAML takes for others than stand there.
    """
    if isinstance(value, dict):
        return {name: _as_meant(item, where, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_meant(item, where, key) for item in value]
    if not isinstance(value, strict_yaml.Scalar):
        return value
    if isinstance(value.value, datetime.date) or key == "name" and value.value is not None:
        return value.text
    word = type(value.value) is bool and value.text.lower() not in ("true", "false")
    if value.misread or word and key != "craft":
        remedy = "write true or false" if word else "write the number in decimals"
        raise InputError(
            f"{where}: {key} is {value.text}, which YAML takes for {value.value}: {remedy}"
            + ("" if key in TYPED else ", or a text in quotes")
        )
    return value.value


def _yaml_value(key: str, text: str):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(
            f"{key} is '{text}': write a number, a word, or another YAML value"
        ) from None


def _merged(tree: dict, keys: dict, options: dict, where: str, here: str) -> dict:
    """The keys of a study over those of the plan; overrides of both, then options.

    Those of trainings win over the others of the same place only, so that what a study or the
    command line sets holds for trainings, too.
    """
    keys = _mapping(keys, here)
    merged: dict = {**DEFAULTS, **tree, **keys, "overrides": {}, "train_overrides": {}}
    for level, place in ((tree, where), (keys, here)):
        overrides, trained = (
            _mapping(level.get(key, {}), f"{place}: {key}")
            for key in ("overrides", "train_overrides")
        )
        merged["overrides"] |= overrides
        merged["train_overrides"] = _without(merged["train_overrides"], overrides) | trained
    merged["overrides"] |= options
    merged["train_overrides"] = _without(merged["train_overrides"], options)
    return merged


def _without(overrides: dict, others: dict) -> dict:
    return {key: value for key, value in overrides.items() if key not in others}


def _mapping(value, where: str) -> dict:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where} is {value!r}: write 'key: value' pairs")
    return dict(value)


# A study, checked


def read_study(tree: dict, where: str) -> Study:
    """The study of a tree of keys. Raises InputError, beginning with `where`, for bad ones."""
    return _study(_merged(tree, {}, {}, where, where), where)


def _study(keys: dict, where: str) -> Study:
    """Raises InputError for keys and values that no plan may have, beginning with `where`."""
    try:
        for key in keys:
            configs.check(key, KEYS, "key")
        for key in ("protocol", "datasets", "trainers"):
            if not keys.get(key):
                raise InputError(f"{where} has no {key}: write '{key}: ...'")
        axes = {key: _axis(key, keys[key]) for key in AXES}
        configs.check(str(keys["protocol"]), PROTOCOLS, "protocol")
        protocol = PROTOCOLS[str(keys["protocol"])]
        name = _name(keys["name"], protocol)
        _check_datasets(protocol, axes)
        _check_overrides(keys)
        trainers = _trainers(keys, axes["craft"])
        return Study(
            protocol=protocol,
            name=name,
            trainers=trainers,
            selection=_selection(keys["selection"]),
            repeat_errors_of=_repeated(keys, trainers),
            datasets=axes["datasets"],
            tests=axes["tests"],
            targets=axes["targets"],
            shots=axes["shots"],
            seeds=axes["seeds"],
            overrides=keys["overrides"],
            train_overrides=keys["train_overrides"],
        )
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(where) else f"{where}: {text}") from None


def _axis(key: str, values) -> list:
    """The values of an axis. Raises InputError for one that it may not have, or has twice."""
    values = values if isinstance(values, list) else [values]
    if wrong := [value for value in values if not _fits(key, value)]:
        raise InputError(f"{key} has {wrong[0]!r}: write {_allowed(key)}")
    if not values and key not in ("tests", "targets"):
        raise InputError(f"{key} is empty: write one value or more")
    _check_once(key, values)
    return values


def _check_once(key: str, values: list) -> None:
    """Raise InputError for a value given twice: one too many, or another was meant."""
    for place, value in enumerate(values):
        if value in values[:place]:
            raise InputError(f"{key} has {value} twice: take one out")


def _fits(key: str, value) -> bool:
    """Whether an axis may have this value."""
    if key == "craft":
        return value is True or value is False or value in configs.presets()
    if isinstance(value, bool) or not isinstance(value, AXES[key]):
        return False
    return key != "shots" or value == "all" or isinstance(value, int) and value > 0


def _allowed(key: str) -> str:
    """The values that an axis may have, in words."""
    if key == "craft":
        return f"false, true, or {', '.join(configs.presets())}"
    return {"shots": "numbers from 1, or all", "seeds": "whole numbers"}.get(key, "names")


def _name(value, protocol: Protocol) -> str:
    name = "" if value is None else str(value)
    if not re.fullmatch(r"([\w+-][\w.+-]*)?", name):
        raise InputError(f"name '{name}' becomes a folder: use letters, digits, _ + - and .")
    if protocol.has("study") and not name:
        raise InputError(
            f"the study has no name: each variant of an {protocol.name} needs one, for its folder"
        )
    return name


def _check_datasets(protocol: Protocol, axes: dict[str, list]) -> None:
    if bool(axes["targets"]) != protocol.has("target"):
        raise InputError(
            f"{protocol.name} has no targets: write the data sets whose training images are the "
            "unlabelled ones"
            if protocol.has("target")
            else f"targets are for protocol {_with_targets()}, not {protocol.name}: take them out"
        )
    if axes["tests"] and not protocol.test:
        raise InputError(
            f"protocol {protocol.name} has no tests on other data sets: take tests out"
        )
    for dataset in (*axes["datasets"], *axes["tests"], *axes["targets"]):
        configs.dataset_file(dataset)
    if both := set(axes["datasets"]) & {*axes["tests"], *axes["targets"]}:
        raise InputError(
            f"'{min(both)}' is both trained on and in tests or targets: train.py tests it after "
            "training, so take it out there"
        )


def _with_targets() -> str:
    return " or ".join(name for name, protocol in PROTOCOLS.items() if protocol.has("target"))


def _selection(value) -> str:
    """The folder of a selection as a path, "" for none. Raises InputError for another value."""
    if not isinstance(value, str):
        raise InputError(f"selection is {value!r}: write the folder that tools.select wrote")
    return str(Path(value).expanduser()) if value else ""


def _repeated(keys: dict, trainers: list[tuple[str, str]]) -> str:
    """The config of JTT's first runs, "" for none. Raises InputError for one that no trainer has,
    and beside a selection, which has the configs of second runs only.
    """
    config = keys["repeat_errors_of"]
    if not isinstance(config, str):
        raise InputError(f"repeat_errors_of is {config!r}: write the config of the first runs")
    if config and keys["selection"]:
        raise InputError(
            "repeat_errors_of stands beside selection, which has no first runs: write the names of "
            "configs instead of the selection"
        )
    for trainer, name in trainers if config else ():
        first = configs.joined(config, configs.split(trainer, name)[1])
        configs.files(trainer, first)
        if first == name:
            raise InputError(
                f"repeat_errors_of is '{config}', which is the config of the second runs, too: "
                "give them a config of their own, for their folder"
            )
    return config


def _trainers(keys: dict, craft: list) -> list[tuple[str, str]]:
    """(trainer, config) for each structure, config and value of `craft`.

    A value is False (without CRAFT), True (with it), or a preset.
    """
    value, config = keys["trainers"], keys["config"]
    if isinstance(value, list):
        _check_once("trainers", value)
    if isinstance(value, (str, list)):
        if not config:
            raise InputError(
                "the study has no config: write 'config: NAME', or trainers as 'TRAINER: CONFIG' "
                "pairs"
            )
        value = {str(name): config for name in ([value] if isinstance(value, str) else value)}
    pairs = []
    for structure, names in _mapping(value, "trainers").items():
        names = names if isinstance(names, list) else [names]
        _check_once(f"trainers: {structure}", names)
        for name, preset in itertools.product(map(str, names), craft):
            trainer = configs.with_craft(structure) if preset else structure
            plain = preset in (False, True)
            pair = trainer, name if plain else configs.crafted(structure, name, preset)
            if not keys["selection"] or not configs.learns(trainer):
                configs.files(*pair)
            pairs.append(pair)
    return pairs


def check_given(name: str, value) -> None:
    """Raise InputError for a config key without a value: str(None) would be a text."""
    if value is None or isinstance(value, list) and None in value:
        raise InputError(f"{name} has an empty value: write one, or two quotes for an empty text")


def _check_overrides(keys: dict) -> None:
    for group in ("overrides", "train_overrides"):
        for name, value in keys[group].items():
            if name in TAKEN:
                raise InputError(f"{name} cannot be overridden: {TAKEN[name]}")
            check_given(name, value)
            if group == "train_overrides" and name.startswith(("TRAINER.", "MODEL.")):
                raise InputError(
                    f"{name} is of the model, so that its tests need it, too: move it to overrides"
                )
            if isinstance(value, dict):
                example = f"{name}.{next(iter(value), 'KEY')}: value"
                raise InputError(
                    f"{group} has the group {name}: write whole keys, e.g. '{example}'"
                )
