"""The protocols: where their runs lie, what their tables have for columns, and what a finished run puts into them."""

import functools
import json
import math
import os
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dassl.files import is_file
from dassl.identity import changes
from tools.inputs import InputError

CELL = r"shots_(?P<shots>\d+|all)/(?P<trainer>[^/]+)/(?P<config>[^/]+)/seed(?P<seed>-?\d+)/results\.json$"
COOP_CELL = r"(?P<trainer>[^/]+)/(?P<config>[^/]+)_(?P<shots>\d+|all)shots/"
IMAGENETS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


def harmonic(base: float, new: float) -> float:
    """H = 2bn / (b + n); 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass(eq=False)
class Row:
    """What one trainer with its config reached on one data set, or on average over several: {column: {seed: percent}}."""

    dataset: str
    trainer: str
    config: str
    shots: str
    values: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    runs: list[dict] = field(default_factory=list)  # what of each results.json proves the numbers
    first: dict[str, dict] = field(default_factory=dict)  # {column: results.json of its first run}
    tested: dict[str, set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )  # {column: numbers of test images of its runs}
    targets: frozenset[str] = frozenset()  # columns that the column "average" is over
    members: frozenset[str] = frozenset()  # data sets that a row of averages is over
    published: bool = False  # from a paper, without seeds

    def of(self, column: str) -> dict[int, float]:
        """{seed: value}; H from base and new; the average of seeds that all targets have."""
        if column == "H":
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
    def name(self) -> str:
        return f"{self.trainer}/{self.config}"

    @property
    def seeds(self) -> set[int]:
        """Those that any column has."""
        return {seed for values in self.values.values() for seed in values}


@dataclass(frozen=True)
class Protocol:
    """A name, what to run for it, and the layouts of its folders.

    place: (match of a layout, metrics of the test) -> (data set, {column: percent}) or None for a run of another protocol.
    columns: those of the table, given the ones found. whole: whether data sets are averaged.
    """

    name: str
    script: str
    layouts: tuple[str, ...]
    place: Callable[[re.Match, dict], tuple[str, dict[str, float]] | None]
    columns: Callable[[list[str]], list[str]] = lambda found: found
    whole: bool = False


def percent(metrics: dict, key: str) -> float:
    """A metric of a test. KeyError if there is none, ValueError if it is no number."""
    value = metrics[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"its {key} is {value!r}")
    return float(value)


def accuracy(metrics: dict) -> float:
    return percent(metrics, "accuracy")


def _base2new(match: re.Match, metrics: dict):
    return match["dataset"], {"new" if match["part"] == "test_new" else "base": accuracy(metrics)}


def _transfer(wanted: Callable[[str], bool]):
    def place(match: re.Match, metrics: dict):
        if "tested" not in match.groupdict():
            return match["dataset"], {"source": accuracy(metrics)}
        tested, _, source = match["tested"].partition("_from_")
        return (source or "imagenet", {tested: accuracy(metrics)}) if wanted(tested) else None

    return place


def _ood(match: re.Match, metrics: dict):
    return match["dataset"], {match["tested"] or "source": accuracy(metrics)}


GROUP_COLUMNS = {
    "mean": "accuracy",
    "adjusted": "adjusted_accuracy",
    "worst group": "worst_group_accuracy",
    "gap": "gap",
}


def _group(match: re.Match, metrics: dict):
    return match["dataset"], {
        name: percent(metrics, key) for name, key in GROUP_COLUMNS.items() if key in metrics
    }


def _few_shot(match: re.Match, metrics: dict):
    return match["dataset"], {f"{match['shots']} shots": accuracy(metrics)}


def _source_first(found: list[str]) -> list[str]:
    return [
        *(["source"] if "source" in found else []),
        *sorted(name for name in found if name != "source"),
        "average",
    ]


TRAINED_ON_ALL = rf"(?P<dataset>[^/]+)/{COOP_CELL}seed(?P<seed>-?\d+)/results\.json$"
EVALUATED = rf"evaluation/{COOP_CELL}(?P<tested>[^/]+)/seed(?P<seed>-?\d+)/results\.json$"
BASE2NEW = rf"(?P<part>train_base|test_base|test_new)/(?P<dataset>[^/]+)/{CELL}"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "base2new",
            "base2new_train.sh",
            (BASE2NEW,),
            _base2new,
            lambda _: ["base", "new", "H"],
            whole=True,
        ),
        Protocol(
            "xd",
            "xd_train.sh",
            (EVALUATED, TRAINED_ON_ALL),
            _transfer(lambda name: name not in IMAGENETS),
            _source_first,
        ),
        Protocol(
            "dg",
            "xd_train.sh",
            (EVALUATED, TRAINED_ON_ALL),
            _transfer(lambda name: name in IMAGENETS),
            _source_first,
        ),
        Protocol(
            "ood",
            "ood_train.sh",
            (rf"ood/(?:train|test_(?P<tested>[^/]+))/(?P<dataset>[^/]+)/{CELL}",),
            _ood,
            _source_first,
        ),
        Protocol(
            "group",
            "group_train.sh",
            (rf"group/(?P<dataset>[^/]+)/{CELL}",),
            _group,
            lambda found: [name for name in GROUP_COLUMNS if name in found],
            whole=True,
        ),
        Protocol(
            "few_shot",
            "few_shot.sh",
            (TRAINED_ON_ALL,),
            _few_shot,
            lambda found: sorted(
                found,
                key=lambda name: (
                    not name[0].isdigit(),
                    int(name.split()[0]) if name[0].isdigit() else 0,
                ),
            ),
            whole=True,
        ),
        Protocol(
            "ablation",
            "ablation.sh",
            (rf"ablation/(?P<variant>[^/]+)/base2new/{BASE2NEW}",),
            _base2new,
            lambda _: ["base", "new", "H"],
            whole=True,
        ),
    )
}


def settings(config: dict) -> dict[str, tuple]:
    """{KEY: (what counts, what the configuration says)} of what the seeds of one cell are to have in common.

    That is what a run depends on, as train.py decides it, but for the seed. Where that cannot be told, everything counts.
    """
    # Not above: it takes torch, and most tables need it for nothing.
    import trainers  # noqa: F401 - says which options a trainer reads
    from dassl.config import counts
    from dassl.engine import stored_settings

    try:
        found = stored_settings(config)
    except (AttributeError, KeyError, TypeError, OSError):  # OSError: weights that may not be read
        found = {key: (value, value) for key, value in flat(config).items() if counts(key)}
    return {key: pair for key, pair in found.items() if key != "SEED"}


def comparable(run: dict) -> str:
    """The same text for runs that differ in nothing that a result depends on but seed and data.

    run: what its results.json holds, as below.
    """
    return json.dumps(
        {key: counts for key, (counts, _) in settings(run["config"]).items()}, sort_keys=True
    )


def data_of(run: dict) -> dict[str, str]:
    """{what: SHA-256} of the files of the data set as the run found them; {} of older versions' results.

    Without the index file of few-shot picks, of which each seed has its own.
    """
    return {
        what: content
        for what, content in (run.get("data") or {}).items()
        if not what.startswith("index file")
    }


def text_of(run: dict) -> str:
    """All that a run depends on but for what differs between the seeds of a cell in any case."""
    config = {
        key: value for key, value in run["config"].items() if key not in ("SEED", "OUTPUT_DIR")
    }
    return json.dumps([config, data_of(run)], sort_keys=True)


def kinds(runs: Iterable[tuple[Path, dict]]) -> list[tuple[Path, dict]]:
    """Of (path, run) pairs the first of each configuration, and of each content of the data set's files, if known."""
    found: dict[tuple[str, str], tuple[Path, dict]] = {}
    for path, run in runs:
        found.setdefault((comparable(run), json.dumps(data_of(run), sort_keys=True)), (path, run))
    known = {config for (config, _), (_, run) in found.items() if data_of(run)}
    return [
        (path, run)
        for (config, _), (path, run) in found.items()
        if data_of(run) or config not in known
    ]


def unequal(one: dict, other: dict) -> list[str]:
    """Keys and files of the data set in which the results of two runs differ, as far as both are known."""
    ours, theirs = settings(one["config"]), settings(other["config"])
    nothing = (None, None)
    keys = sorted(
        key
        for key in ours.keys() | theirs.keys()
        if ours.get(key, nothing)[0] != theirs.get(key, nothing)[0]
    )
    return keys + changes(data_of(one), data_of(other))


def flat(tree: dict, prefix: str = "") -> dict:
    """{KEY.KEY: value}."""
    return {
        key: value
        for name, node in tree.items()
        for key, value in (
            flat(node, f"{prefix}{name}.") if isinstance(node, dict) else {f"{prefix}{name}": node}
        ).items()
    }


# What a baseline and what is built on it need to have in common, if a gain is to be CRAFT's.
SHARED = ("OPTIM.", "MODEL.", "INPUT.", "DATALOADER.TRAIN_X.", "TEST.FINAL_MODEL", "TRAINER.")
OWN = ("TRAINER.NAME", "TRAINER.CRAFT.")


def unlike(row: Row, baseline: Row) -> list[str]:
    """Settings in which two rows differ though they should not: "KEY is 1, that of the baseline 2"."""
    found = {}
    for column in row.first.keys() & baseline.first.keys():
        pair = row.first[column], baseline.first[column]
        ours, theirs = (flat(run["config"]) for run in pair)
        keys = {
            key
            for key in ours.keys() & theirs.keys()
            if key.startswith(SHARED) and not key.startswith(OWN) and ours[key] != theirs[key]
        }
        for key in keys and keys.intersection(unequal(*pair)):
            found[key] = f"{key} is {ours[key]}, that of the baseline {theirs[key]}"
        ours, theirs = map(data_of, pair)
        found |= {
            what: f"the {what} is not the baseline's"
            for what in ours.keys() & theirs.keys()
            if ours[what] != theirs[what]
        }
    return [found[key] for key in sorted(found)]


def key_of(protocol: Protocol, match: re.Match, dataset: str) -> tuple[str, str, str, str]:
    """Of the row that a run belongs to: data set, trainer, config, shots."""
    if protocol.name == "ablation":  # a structure's variants are its rows
        return dataset, match["trainer"].removeprefix("Craft"), match["variant"], match["shots"]
    return (
        dataset,
        match["trainer"],
        match["config"],
        "" if protocol.name == "few_shot" else match["shots"],
    )


def baseline_key(protocol: Protocol, row: Row) -> tuple[str, str, str, str] | None:
    """The key of the row that a row's gain is over; None for a baseline itself. A config with MMD is its structure's config and "_mmd"."""
    if protocol.name == "ablation":
        return (
            None if row.config == "baseline" else (row.dataset, row.trainer, "baseline", row.shots)
        )
    if not row.trainer.startswith("Craft"):
        return None
    return (
        row.dataset,
        row.trainer.removeprefix("Craft"),
        row.config.removesuffix("_mmd"),
        row.shots,
    )


# What results.json has of what is read here: kinds of the values, which but for the first three may be absent or null.
KINDS = {
    "complete": bool,
    "metrics": dict,
    "config": dict,
    "loaded": dict,
    "loaded.model_dir": str,
    "loaded.epoch": int,
    "epochs": int,
    "seed": int,
    "wall_time_s": (int, float),
    "started": str,
    "finished": str,
    "versions": dict,
    "config_hash": str,
    "data": dict,
    "config.TRAIN": dict,
    "config.DATASET": dict,
    "config.TRAINER": dict,
    "config.TRAINER.NAME": str,
}


def read_run(path: Path) -> dict:
    """What a results.json holds. Raises OSError, or ValueError for what no run of train.py writes."""
    return _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, time: int) -> dict:
    """A page with all protocols asks for each file many times."""
    if not is_file(path):
        raise ValueError("it is a pipe or a device")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    for number, (key, kind) in enumerate(KINDS.items()):
        value = functools.reduce(
            lambda node, part: node.get(part) if isinstance(node, dict) else None,
            key.split("."),
            found,
        )
        if not isinstance(value, kind) and (number < 3 or value is not None):
            raise ValueError(f"its {key} is {value!r}" if value is not None else f"it lacks {key}")
    return found


def run_files(folders: Iterable[Path], name: str = "results.json") -> Iterator[tuple[Path, Path]]:
    """(folder, file of this name) of everything below the folders. Raises InputError for what is no folder."""
    seen: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder: give the output folder of the runs")
        found = []
        for top, below, files in os.walk(folder, followlinks=True):
            real = os.path.realpath(top)
            if real in seen:  # links may go in circles, and folders overlap
                below.clear()
            elif name in files:
                found.append(Path(top, name))
            seen.add(real)
        for path in sorted(found):
            yield folder, path


def match_of(protocol: Protocol, folder: Path, path: Path) -> re.Match | None:
    """Of the layout of the protocol's folders that the path of a results.json below a folder has; None if it is of another protocol.

    Of what lies above the folder as little is looked at as tells, so that a folder may be given that is deep inside, and lie wherever its owner likes.
    """
    return _matches(folder, path).get(protocol.name)


@functools.cache
def _matches(folder: Path, path: Path) -> dict[str, re.Match]:
    """{protocol: match}."""
    inside, above = path.relative_to(folder).as_posix(), folder.absolute().parts[1:]
    for start in range(len(above) - 1, -1, -1):
        text = f"/{'/'.join(above[start:])}/{inside}"
        # Of a protocol's layouts the first one that matches counts: the last written here.
        found = {
            protocol.name: match
            for protocol in PROTOCOLS.values()
            for layout in protocol.layouts[::-1]
            if (match := re.search(f"/{layout}", text))
        }
        if "ablation" in found:  # whose variants are base2new's
            del found["base2new"]
        if found:
            return found
    return {}


def collect(
    protocol: Protocol, folders: Iterable[Path], shots: str | None = None
) -> tuple[list[Row], list[str]]:
    """(rows in the order of a table, what is wrong with the folders in sentences). Raises InputError for what is no folder."""
    rows: dict[tuple, Row] = {}
    problems: list[str] = []
    texts: dict[tuple, dict[str, tuple[Path, dict]]] = defaultdict(dict)
    epochs: dict[tuple, dict[bool, set]] = defaultdict(
        lambda: defaultdict(set)
    )  # (row, seed): tests of a model or not: epochs of the model
    for folder, path in run_files(folders):
        match = match_of(protocol, folder, path)
        if match is None or shots is not None and match["shots"] != shots:
            continue
        try:
            found = read_run(path)
            placed = protocol.place(match, found["metrics"]["test"]) if found["complete"] else ()
        except OSError as error:
            problems.append(
                f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after the disk"
            )
            continue
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            said = (
                f"lacks {error}"
                if isinstance(error, KeyError)
                else f"is not readable as results ({error})"
            )
            problems.append(f"'{path}' {said}: run it again")
            continue
        if placed is None:
            continue
        if not placed:
            problems.append(f"'{path}' is of a run that is not complete: run it again to finish it")
            continue
        key, seed, loaded = (
            key_of(protocol, match, placed[0]),
            int(match["seed"]),
            found.get("loaded"),
        )
        row = rows.setdefault(key, Row(*key))
        if found.get("seed", seed) != seed:
            problems.append(
                f"'{path}' is of seed {found['seed']}, not of the one that its folder says: do not trust it"
            )
        if twice := [column for column in placed[1] if seed in row.values.get(column, {})]:
            problems.append(
                f"'{path}' is left out: seed {seed} of {row.name} on {row.dataset} ({', '.join(twice)}) is in another folder, too; "
                "give one of them"
            )
            continue
        total = found["metrics"]["test"].get("total")
        for column, value in placed[1].items():
            row.values[column][seed] = value
            if isinstance(total, int):
                row.tested[column].add(total)
            texts[(*key, column)].setdefault(text_of(found), (path, found))
            row.first.setdefault(column, found)
        if loaded is None:
            epochs[key, seed][False].add(
                None if found.get("deployed") == "best_val" else found.get("epochs")
            )
        elif loaded.get("model_dir"):
            epochs[key, seed][True].add(loaded.get("epoch"))
        row.runs.append(
            {"run": path.parent.relative_to(folder).as_posix()}
            | {
                name: found["metrics"]["test"].get(name)
                for name in ("correct", "total", "accuracy")
            }
            | {
                name: found.get(name)
                for name in ("config_hash", "epochs", "wall_time_s", "peak_memory_mb", "started")
            }
        )
    if protocol.name in (
        "xd",
        "dg",
    ):  # a data set that something was trained on and nothing else tested is another protocol's
        rows = {key: row for key, row in rows.items() if set(row.values) - {"source"}}
    for row in rows.values():
        row.targets = frozenset(
            column
            for other in rows.values()
            if other.dataset == row.dataset
            for column in other.values
        ) - {"source"}
    for (dataset, trainer, config, _, column), own in texts.items():
        if len(own) > 1 and len(different := kinds(own.values())) > 1:
            (path, one), (other_path, other) = different[:2]
            problems.append(
                f"{trainer}/{config} on {dataset} ({column}) mixes {len(different)} configurations, e.g. '{path}' and "
                f"'{other_path}' ({', '.join(unequal(one, other))}): do not trust its mean"
            )
    for ((dataset, trainer, config, _), seed), found in epochs.items():
        if found[True] and len(every := found[True] | found[False]) > 1:
            names = " and ".join(
                sorted("the best" if epoch is None else str(epoch) for epoch in every)
            )
            problems.append(
                f"{trainer}/{config} on {dataset}, seed {seed}, mixes tests of the model's epochs {names}: do not compare them"
            )
    return ordered(rows.values()), problems + uneven(rows.values()) + lacking(rows.values())


def uneven(rows: Iterable[Row]) -> list[str]:
    """Sentences on columns of a data set that were tested on different numbers of images."""
    numbers: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for row in ordered(rows):
        for column, found in row.tested.items():
            for number in sorted(found):
                numbers[row.dataset, column].setdefault(number, row.name)
    sentences = []
    for (dataset, column), found in numbers.items():
        if len(found) > 1:
            counts = ", ".join(f"{number:,} by {name}" for number, name in found.items())
            sentences.append(
                f"{dataset} ({column}) was tested on different numbers of images ({counts}): do not compare them"
            )
    return sentences


def lacking(rows: Iterable[Row]) -> list[str]:
    """Sentences on seeds that a row has not and others of its data set have; nothing is drawn for zero-shot CLIP."""
    rows, sentences = [row for row in rows if not row.trainer.startswith("Zeroshot")], []
    for row in ordered(rows):
        wanted = {
            seed
            for other in rows
            if (other.dataset, other.shots) == (row.dataset, row.shots)
            for seed in other.seeds
        }
        without: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for column in row.values:
            if missing := tuple(sorted(wanted - row.of(column).keys())):
                without[missing].append(column)
        sentences += [
            f"{row.name} on {row.dataset} has no seed {', '.join(map(str, missing))} of {', '.join(columns)}, which other rows have"
            for missing, columns in without.items()
        ]
    return sentences


def ordered(rows: Iterable[Row]) -> list[Row]:
    """By data set; zero-shot first, then each structure with what is built on it."""
    variants = ["baseline", "static", "stochastic", "both", "mmd"]

    def place(row: Row):
        variant = variants.index(row.config) if row.config in variants else -1
        return (
            row.dataset,
            not row.trainer.startswith("Zeroshot"),
            row.config.removesuffix("_mmd") if variant < 0 else "",
            row.trainer.removeprefix("Craft"),
            row.trainer.startswith("Craft"),
            row.config.endswith("_mmd"),
            variant,
            row.config,
        )

    return sorted(rows, key=place)


def averages(
    protocol: Protocol, rows: list[Row], columns: list[str]
) -> tuple[list[Row], list[str]]:
    """(a row per trainer and config over all its data sets, per seed; which data sets a row lacks). Seeds are those that every data set has.

    Papers take H of the averaged base and new accuracies, which `Row.of` does per seed.
    """
    if not protocol.whole:
        return [], []
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.key[1:]].append(row)
    result, notes = [], []
    for key, members in groups.items():
        names, every = (
            frozenset(row.dataset for row in members),
            {row.dataset for row in rows if row.shots == key[2]},
        )
        if len(members) < 2:
            if len(every) > 1:
                notes.append(
                    f"{members[0].name} has no average: it is on {members[0].dataset} only, other rows are on {', '.join(sorted(every - names))}, too"
                )
            continue
        average = Row(
            f"average of {len(names)}" + ("" if names == every else f" of {len(every)}"),
            *key,
            members=names,
        )
        if names != every:
            notes.append(
                f"the average of {average.name} is without {', '.join(sorted(every - names))}"
            )
        for column in columns:
            if column != "H":
                shared = set.intersection(*(set(row.of(column)) for row in members))
                average.values[column].update(
                    {
                        seed: statistics.mean(row.of(column)[seed] for row in members)
                        for seed in sorted(shared)
                    }
                )
        result.append(average)
    return sorted(result, key=lambda row: -len(row.members)), notes
