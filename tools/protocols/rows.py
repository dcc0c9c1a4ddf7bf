"""Finished runs -> rows of a protocol's table, and sentences on what is wrong with the runs."""

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl import files, identity, record
from dassl.record import Description
from tools import configs
from tools.inputs import InputError
from tools.protocols.base import PROTOCOLS, Protocol, by_folder

# What a baseline and what is built on it need to have in common, if a gain is to be CRAFT's; and
# what of it differs.
_SHARED = ("OPTIM.", "MODEL.", "INPUT.", "DATASET.", "DATALOADER.TRAIN_X.", "TEST.", "TRAINER.")
_OF_CRAFT = ("TRAINER.NAME", "TRAINER.CRAFT.")
# MMD reads the images of a target, which a baseline does not.
_OF_TARGET = ("DATASET.TARGET", "DATASET.TARGET_CLASSES")


def harmonic(base: float, new: float) -> float:
    """H = 2bn / (b + n); 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass(eq=False)
class Row:
    """What a trainer with its config reached on a data set, or on average over several.

    values: {column: {seed: percent}}.
    runs: of each record what proves the numbers. files: {column: {seed: results.json}}. first:
    {column: record of its first run}. tested: {column: numbers of test images of its runs}. picks:
    {seed: checksum of its few shots}. selections: the groups SELECTION of its runs, as JSON.
    targets: columns that the column "average" is over. members: data sets that a row of averages is
    over; parts: their rows. published: whether it is from a paper, without seeds. shots: also of a
    zero_shot row, those of the numbers that it stands beside. run: the first run, as its record
    tells it.
    """

    dataset: str
    trainer: str
    config: str
    shots: str
    values: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    runs: list[dict] = field(default_factory=list)
    files: dict[str, dict[int, Path]] = field(default_factory=lambda: defaultdict(dict))
    first: dict[str, dict] = field(default_factory=dict)
    tested: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    picks: dict[int, str] = field(default_factory=dict)
    selections: set[str] = field(default_factory=set)
    targets: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    parts: tuple["Row", ...] = ()
    published: bool = False
    zero_shot: bool = False
    run: Description | None = None

    def of(self, column: str) -> dict[int, float]:
        """{seed: value}; H from base and new, but of a paper as it prints it; the average of seeds
        that all targets have.
        """
        if column == "H" and not (self.published and column in self.values):
            base, new = self.of("base"), self.of("new")
            return {
                seed: harmonic(base[seed], new[seed]) for seed in sorted(base.keys() & new.keys())
            }
        if column == "average":
            parts = [self.of(target) for target in self.targets]
            shared = set.intersection(*map(set, parts)) if parts else set()
            return {
                seed: statistics.mean(values[seed] for values in parts) for seed in sorted(shared)
            } or self.values.get(column, {})
        return self.values.get(column, {})

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.dataset, self.trainer, self.config, self.shots

    @property
    def shots_shown(self) -> str:
        """What a table says of its shots."""
        return "0" if self.zero_shot else self.shots

    @property
    def name(self) -> str:
        return f"{self.trainer}/{self.config}"

    def told(self, tells: Mapping[str, Callable[[dict], str]]) -> dict[str, str]:
        """{column of text: what the first record tells}; of averages, what those of its parts do.

        Empty texts of a published row.
        """
        firsts = [next(iter(row.first.values()), None) for row in self.parts or (self,)]
        return {
            name: "; ".join(dict.fromkeys(tell(first) for first in firsts if first))
            for name, tell in tells.items()
        }

    @property
    def seeds(self) -> set[int]:
        """Those that any column has."""
        return {seed for values in self.values.values() for seed in values}

    @property
    def structure(self) -> str:
        """The trainer without CRAFT."""
        return self.run.structure if self.run else configs.structure_of(self.trainer)

    @property
    def craft(self) -> str:
        """The preset of CRAFT's options; "" without CRAFT, and for the variants of an ablation."""
        preset = self.run.craft if self.run else configs.split(self.trainer, self.config)[1]
        return "" if self.trainer == self.structure else preset

    @property
    def plain_config(self) -> str:
        """The config without CRAFT's preset."""
        named = self.craft not in ("", configs.DEFAULT)
        return self.config.removesuffix(f"_{self.craft}") if named else self.config

    @property
    def learns(self) -> bool:
        return self.run.learns if self.run else configs.learns(self.trainer)


def unlike(row: Row, baseline: Row) -> list[str]:
    """Settings and data in which two rows wrongly differ: "KEY is 1, that of the baseline 2"."""
    sentences = {}
    seeds = row.picks.keys() & baseline.picks.keys()
    if other := sorted(seed for seed in seeds if row.picks[seed] != baseline.picks[seed]):
        sentences["few shots"] = (
            f"its few shots of seed {', '.join(map(str, other))} are not the baseline's"
        )
    for column in row.first.keys() & baseline.first.keys():
        pair = row.first[column], baseline.first[column]
        ours, theirs = (record.flat(run["config"]) for run in pair)
        keys = {
            key
            for key in ours.keys() & theirs.keys()
            if key.startswith(_SHARED)
            and not key.startswith(_OF_CRAFT)
            and key not in _OF_TARGET
            and ours[key] != theirs[key]
        }
        for key in keys and keys.intersection(unequal(*pair)):
            sentences[key] = f"{key} is {ours[key]}, that of the baseline {theirs[key]}"
        known = [record.data_of(run) for run in pair]
        clips = {record.clip_of(run) for run in pair} - {""}
        if len(clips) > 1:
            sentences["weights of the CLIP"] = "the weights of its CLIP are not the baseline's"
        for what in identity.changes(known[1], known[0]):
            if not what.endswith(record.OF_TARGET):
                sentences[what] = f"the {what} is not the baseline's"
    return [sentences[key] for key in sorted(sentences)]


def baseline_key(
    protocol: Protocol, row: Row, config: str = ""
) -> tuple[str, str, str, str] | None:
    """The key of the row that a row's gain is over; None for a baseline.

    config: that of the baselines; "" for the row's own, without CRAFT.
    """
    if protocol.baseline:
        is_baseline = row.config == protocol.baseline
        return None if is_baseline else (row.dataset, row.trainer, protocol.baseline, row.shots)
    if not row.craft:
        return None
    return row.dataset, row.structure, config or row.plain_config, row.shots


# Reading runs


def run_files(folders: Iterable[Path], name: str = record.NAME) -> Iterator[tuple[Path, Path]]:
    """(folder, path) of all files of this name below folders.

    Raises InputError if a path is not a directory.
    """
    seen: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder: give the output folder of the runs")
        paths = []
        for top, below, names in os.walk(folder, followlinks=True):
            real = os.path.realpath(top)
            if real in seen:  # links may go in circles, and folders overlap
                below.clear()
            elif name in names:
                paths.append(Path(top, name))
            seen.add(real)
        for path in sorted(paths):
            yield folder, path


def run_of(protocol: Protocol, folder: Path, path: Path) -> Description | None:
    """The run of a results.json below a folder; None if the protocol's table has no cell for it.

    By its record; of older versions, which do not tell, and of unknown protocols, by its path.
    """
    try:
        run = record.description(record.read(path))
    except (OSError, ValueError, RecursionError):
        run = None
    if run is not None and run.protocol in PROTOCOLS:
        return run if protocol.lists(run) else None
    run = by_folder(folder, path).get(protocol.name)
    return run if run and protocol.takes(run) else None


def _of_cut(key: tuple[str, str, str, str], results: dict) -> tuple[str, str, str, str]:
    """The key of a row; one of a random cut of the classes names it beside its data set."""
    cut = (results["config"].get("DATASET") or {}).get("CUT")
    return (f"{key[0]} (cut {cut})", *key[1:]) if cut else key


class _Collected:
    """Rows and problems, run by run."""

    def __init__(self, protocol: Protocol):
        self.protocol = protocol
        self.rows: dict[tuple, Row] = {}
        self.problems: list[str] = []
        # (row, column): {text of all that counts: (path, record)}
        self.texts: dict[tuple, dict[str, tuple[Path, dict]]] = defaultdict(dict)
        # (row, seed): {whether a test of a model: epochs of that model}
        self.epochs: dict[tuple, dict[bool, set]] = defaultdict(lambda: defaultdict(set))
        # (row, seed, data set tested): {data files as JSON: path}
        self.data: dict[tuple, dict[str, Path]] = defaultdict(dict)
        # (row, seed): (path, record) of the trainings that tested themselves
        self.trained: dict[tuple, list[tuple[Path, dict]]] = defaultdict(list)
        # (row, seed, model folder, epoch): {checksum of the model: (path, record)}
        self.models: dict[tuple, dict[str, tuple[Path, dict]]] = defaultdict(dict)

    def read(self, run: Description, path: Path) -> tuple[dict, dict[str, float]] | None:
        """(record, cells) of a run; None, with a problem, where there are none."""
        try:
            results = record.read(path)
            if results["complete"]:
                return results, self.protocol.cells(run, results["metrics"]["test"])
            self.problems.append(
                f"'{path}' is of a run that is not complete: run it again to finish it"
            )
        except OSError as error:
            self.problems.append(
                f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after "
                "the disk"
            )
        except KeyError as error:
            self.problems.append(f"'{path}' lacks {error}: run it again")
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self.problems.append(f"'{path}' is not readable as results ({error}): run it again")
        return None

    def add(self, run: Description, folder: Path, path: Path) -> None:
        """Put the cells of a run into its row."""
        if (content := self.read(run, path)) is None:
            return
        results, cells = content
        key = _of_cut(self.protocol.key(run), results)
        row = self.rows.setdefault(key, Row(*key, run=run))
        if results.get("seed", run.seed) != run.seed:
            told = (results.get("run") or {}).get("seed") == run.seed
            self.problems.append(
                f"'{path}' is of seed {results['seed']}, not of the one that its "
                f"{'run.seed' if told else 'folder'} says: do not trust it"
            )
        if twice := [column for column in cells if run.seed in row.values.get(column, {})]:
            self.problems.append(
                f"'{path}' is left out: seed {run.seed} of {row.name} on {row.dataset} "
                f"({', '.join(twice)}) is in another "
                "folder, too; give one of them"
            )
            return
        total = results["metrics"]["test"].get("total")
        for column, value in cells.items():
            row.values[column][run.seed] = value
            row.files[column][run.seed] = path
            if isinstance(total, int):
                row.tested[column].add(total)
            cell = (*key, column)
            self.texts[cell].setdefault(record.text_of(results), (path, results))
            row.first.setdefault(column, results)
            self.data[key, run.seed, run.tested].setdefault(
                json.dumps(record.data_of(results), sort_keys=True), path
            )
        row.selections.add(json.dumps(results["config"].get("SELECTION") or {}, sort_keys=True))
        if picks := results.get("picks"):
            row.picks.setdefault(run.seed, picks)
        loaded = results.get("loaded")
        if loaded is None or loaded.get("model_dir"):
            epoch = record.tested_epoch(results)
            self.epochs[key, run.seed][loaded is not None].add(epoch)
            if loaded is None:
                self.trained[key, run.seed].append((path, results))
            elif checksum := results.get("model_sha256"):
                model = (key, run.seed, loaded["model_dir"], epoch)
                self.models[model].setdefault(checksum, (path, results))
        row.runs.append(_proof(results, path.parent.relative_to(folder).as_posix()))

    def mixed(self) -> list[str]:
        """Sentences on cells whose runs differ in configurations, or in epochs of their models."""
        sentences = []
        for (dataset, trainer, config, _, column), records in self.texts.items():
            if len(records) > 1 and len(different := kinds(records.values())) > 1:
                (path, one), (other_path, other) = different[:2]
                sentences.append(
                    f"{trainer}/{config} on {dataset} ({column}) mixes {len(different)} "
                    f"configurations, e.g. '{path}' and "
                    f"'{other_path}' ({', '.join(unequal(one, other))}): do not trust its mean"
                )
        for ((dataset, trainer, config, _), seed, tested), paths in self.data.items():
            known = [path for data, path in paths.items() if data != record.NO_DATA]
            if len(known) > 1:
                sentences.append(
                    f"{trainer}/{config} on {dataset}, seed {seed}, mixes versions of the data of "
                    f"{tested} ('{known[0]}' and '{known[1]}'): do not trust what is made of both"
                )
        for ((dataset, trainer, config, _), seed), epochs in self.epochs.items():
            if epochs[True] and len(every := epochs[True] | epochs[False]) > 1:
                names = " and ".join(
                    sorted("the best" if epoch is None else str(epoch) for epoch in every)
                )
                sentences.append(
                    f"{trainer}/{config} on {dataset}, seed {seed}, mixes tests of the model's "
                    f"epochs {names}: do not compare them"
                )
        return sentences + self._retrained()

    def _retrained(self) -> list[str]:
        """Sentences on models that were trained again between tests that make one row."""
        sentences = []
        for (key, seed, _, epoch), tests in self.models.items():
            name = f"{key[1]}/{key[2]} on {key[0]}, seed {seed},"
            if len(tests) > 1:
                one, other, *_ = (path for path, _ in tests.values())
                sentences.append(
                    f"{name} mixes tests of two models: it was trained again between '{one}' and "
                    f"'{other}'; test it again"
                )
                continue
            ((checksum, (path, results)),) = tests.items()
            for trained, of_training in self.trained[key, seed]:
                # A training that a test followed is its model's: files are read in doubt only.
                doubt = (results.get("finished") or "") < (of_training.get("finished") or "")
                if doubt and files.is_replaced(str(trained.parent), epoch, checksum):
                    sentences.append(
                        f"{name} was trained again after '{path}' had tested it: test it again"
                    )
        return sentences


def _proof(results: dict, run: str) -> dict:
    """What proves the numbers of a run, for a line of a table."""
    test = results["metrics"]["test"]
    facts = ("config_hash", "epochs", "wall_time_s", "peak_memory_mb", "started")
    return {
        "run": run,
        **{name: test.get(name) for name in ("correct", "total", "accuracy")},
        **{name: results.get(name) for name in facts},
    }


def kinds(records: Iterable[tuple[Path, dict]]) -> list[tuple[Path, dict]]:
    """`record.kinds`, with the trainers' word on which options they read."""
    import trainers  # noqa: F401 - most tables need it for nothing, and it takes torch

    return record.kinds(records)


def unequal(one: dict, other: dict) -> list[str]:
    """`record.unequal`, with the trainers' word on which options they read."""
    import trainers  # noqa: F401

    return record.unequal(one, other)


@dataclass(frozen=True)
class Only:
    """Which runs a table is of, by the names that it shows; what is empty excludes none.

    trainers: a structure's name stands for it with CRAFT, too. baseline: the config of all
    baselines, taken beside `configs`; "" where each row has its own.
    """

    shots: str | None = None
    configs: Sequence[str] = ()
    trainers: Sequence[str] = ()
    baseline: str = ""

    def takes(self, protocol: Protocol, run: Description) -> bool:
        _, trainer, config, _ = protocol.key(run)
        return (
            self.shots in (None, run.shots)
            and (
                not self.configs
                or config in self.configs
                or (config == self.baseline and trainer == run.structure)
            )
            and (not self.trainers or bool({trainer, run.structure} & set(self.trainers)))
        )

    def note(self) -> list[str]:
        """A sentence on what is left out of a table of several methods."""
        kinds = {"configs": self.configs, "trainers": self.trainers}
        said = [f"the {kind} {', '.join(names)}" for kind, names in kinds.items() if names]
        said += [f"runs with {self.shots} shots"] if self.shots is not None else []
        notes = [f"only {' and '.join(said)} are shown, as asked for"] if said else []
        if self.baseline:
            notes.append(f"gains are over the config {self.baseline}, as asked for")
        return notes


EVERY = Only()


def collect(
    protocol: Protocol, folders: Iterable[Path], only: Only = EVERY
) -> tuple[list[Row], list[str]]:
    """(rows in the order of a table, what is wrong with the folders, in sentences).

    Raises InputError if a path is not a directory.
    """
    collected = _Collected(protocol)
    for folder, path in run_files(folders):
        run = run_of(protocol, folder, path)
        if run is not None and only.takes(protocol, run):
            collected.add(run, folder, path)
    rows = list(collected.rows.values())
    if protocol.tested_only:  # other trainings are another protocol's
        rows = [row for row in rows if set(row.values) - {"source"}]
    for row in rows:
        same = [other for other in rows if other.dataset == row.dataset]
        row.targets = frozenset(column for other in same for column in other.values) - {"source"}
    rows = ordered(protocol, rows, only.baseline)
    return rows, collected.problems + collected.mixed() + uneven(rows) + lacking(rows)


def uneven(rows: Iterable[Row]) -> list[str]:
    """Sentences on columns of a data set that were tested on different numbers of images."""
    numbers: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for row in rows:
        for column, totals in row.tested.items():
            for total in sorted(totals):
                numbers[row.dataset, column].setdefault(total, row.name)
    sentences = []
    for (dataset, column), names in numbers.items():
        if len(names) > 1:
            counts = ", ".join(f"{total:,} by {name}" for total, name in names.items())
            sentences.append(
                f"{dataset} ({column}) was tested on different numbers of images ({counts}): do "
                "not compare them"
            )
    return sentences


def lacking(rows: Iterable[Row]) -> list[str]:
    """Sentences on seeds that a row lacks and others have; zero-shot CLIP draws nothing."""
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)
    drawn = [row for row in rows if row.learns]
    for row in drawn:
        seeds[row.dataset, row.shots] |= row.seeds
    sentences = []
    for row in drawn:
        without: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for column in row.values:
            if missing := tuple(sorted(seeds[row.dataset, row.shots] - row.of(column).keys())):
                without[missing].append(column)
        sentences += [
            f"{row.name} on {row.dataset} has no seed {', '.join(map(str, missing))} of "
            f"{', '.join(columns)}, which other rows have"
            for missing, columns in without.items()
        ]
    return sentences


def ordered(protocol: Protocol, rows: Iterable[Row], baseline: str = "") -> list[Row]:
    """By data set; zero-shot first, then each structure followed by what is built on it.

    baseline: the config of all baselines; "" where each row has its own.
    """
    variants = list(protocol.variants)

    def place(row: Row) -> tuple:
        if row.config in variants:  # the variants of a structure stand in the protocol's order
            return (row.dataset, row.learns, "", row.structure, variants.index(row.config))
        has_preset = row.craft not in ("", configs.DEFAULT)
        plain = baseline if baseline and row.craft else row.plain_config
        built_on = (plain, row.structure, bool(row.craft), has_preset, row.config)
        return (row.dataset, row.learns, *built_on)

    return sorted(rows, key=place)


def is_average(dataset: str) -> bool:
    """Whether it is the name of a row that `averages` made."""
    return dataset.startswith("average")


def averages(
    protocol: Protocol, rows: list[Row], columns: list[str]
) -> tuple[list[Row], list[str]]:
    """(a row per trainer and config over all its data sets, per seed; which data sets a row lacks).

    Seeds are those that every data set has. Papers take H of the averaged base and new accuracies,
    as `Row.of` does per seed.
    """
    if not protocol.averaged:
        return [], []
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.key[1:]].append(row)
    result, notes = [], []
    for key, members in groups.items():
        names = frozenset(row.dataset for row in members)
        every = {row.dataset for row in rows if row.shots == key[2]}
        others = ", ".join(sorted(every - names))
        if len(members) < 2:
            if len(every) > 1:
                notes.append(
                    f"{members[0].name} has no average: it is on {members[0].dataset} only, other "
                    f"rows are on {others}, too"
                )
            continue
        average = _average(members, columns)
        average.dataset = f"average of {len(names)}"
        if names != every:
            average.dataset += f" of {len(every)}"
            notes.append(f"the average of {average.name} is without {others}")
        result.append(average)
    return sorted(result, key=lambda row: -len(row.members)), notes


def _average(members: list[Row], columns: list[str]) -> Row:
    """The mean of rows, which differ in their data sets, for each column and seed that all have."""
    names = frozenset(row.dataset for row in members)
    average = Row("", *members[0].key[1:], members=names, run=members[0].run)
    average.parts = tuple(members)
    for column in columns:
        if column != "H":
            shared = set.intersection(*(set(row.of(column)) for row in members))
            average.values[column] = {
                seed: statistics.mean(row.of(column)[seed] for row in members)
                for seed in sorted(shared)
            }
    return average
