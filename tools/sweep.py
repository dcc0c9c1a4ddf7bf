"""Many runs from one plan: `python -m tools.sweep configs/sweeps/openmoji.yaml [--list | --launch local|slurm] [KEY VALUE ...]`.

A plan lists axes (data sets, trainers, shots, seeds) and expands to runs of train.py in CoOp's output folders: trainings, and tests that
load what a training left. `--list` shows which are done, running, failed, missing; `--launch` runs what is not done. docs/sweeps.md
describes plans.
"""

import argparse
import difflib
import functools
import hashlib
import itertools
import os
import re
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from dassl import strict_yaml
from dassl.identity import folders_below
from tools import inputs, launchers
from tools.inputs import InputError
from tools.launchers import ROOT, Job
from tools.results import markdown

STATES = ("done", "running", "queued", "failed", "missing")


# Protocols: which classes a training sees, what its model is tested on beyond what train.py tests after training, and the folders, which are
# those of scripts/ and of tools.results.


@dataclass(frozen=True)
class Protocol:
    """Folders are formats: `train` of {dataset}, the one trained on, `test` of {subset} classes of {tested}, both with {cell} or its parts."""

    subset: str  # of the data set's classes, to train on
    train: str
    test: str = ""
    own: tuple[str, ...] = ()  # subsets of its other classes, to test on
    others: tuple[str, ...] = ()  # subsets of classes of other data sets (`tests`), to test on


CELL = "shots_{shots}/{trainer}/{config}/seed{seed}"
BASE2NEW = Protocol(
    "base",
    "base2new/train_base/{dataset}/" + CELL,
    "base2new/test_{subset}/{tested}/" + CELL,
    ("new",),
    ("base", "new"),
)
TRANSFER = Protocol(
    "all",
    "{dataset}/{trainer}/{config}_{shots}shots/seed{seed}",
    "evaluation/{trainer}/{config}_{shots}shots/{tested}/seed{seed}",
    others=("all",),
)
PROTOCOLS = {
    "base2new": BASE2NEW,
    "ablation": BASE2NEW,
    "xd": TRANSFER,
    "few_shot": TRANSFER,
    "ood": Protocol(
        "all",
        "ood/train/{dataset}_to_{target}/" + CELL,
        "ood/test_{tested}/{dataset}_to_{target}/" + CELL,
        others=("all",),
    ),
    "group": Protocol("all", "group/{dataset}/" + CELL),
}


# Plans

# Axis: what its values are. A value may stand alone for a list of one.
AXES = {
    "datasets": str,
    "tests": str,
    "targets": str,
    "shots": (int, str),
    "craft": (bool, str),
    "seeds": int,
}
VALUES = {
    "shots": "numbers from 1, or all",
    "craft": "false, true, or mmd",
    "seeds": "whole numbers",
}
DEFAULTS = {
    "name": "",
    "tests": [],
    "targets": [],
    "shots": [16],
    "craft": [False],
    "seeds": [1, 2, 3],
    "config": "",
    "overrides": {},
    "train_overrides": {},
}
KEYS = ("protocol", "datasets", "trainers", *DEFAULTS)
# Config keys that the plan sets by other means.
TAKEN = {
    "SEED": "set it by seeds",
    "DATASET.NUM_SHOTS": "set it by shots",
    "DATASET.SUBSAMPLE_CLASSES": "set it by protocol",
    "TRAINER.NAME": "set it by trainers",
    "DATASET.NAME": "set it by datasets",
    "OUTPUT_DIR": "set it by --output",
    "DATASET.ROOT": "set it by --root",
    "EVAL_ONLY": "tests follow from the protocol",
    "RESUME": "each run goes on from its own folder",
}


@dataclass
class Plan:
    """Jobs in the order to run them, and options for Slurm."""

    path: str
    jobs: list[Job]
    slurm: dict

    @property
    def stem(self) -> str:
        return Path(self.path).stem


def read_plan(path: str, pairs: Sequence[str] = ()) -> Plan:
    """A plan, expanded; `pairs`: KEY VALUE ... for every run, or slurm.OPTION VALUE. Raises InputError naming the file and what is wrong."""
    try:
        tree = strict_yaml.load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"plan '{path}' cannot be read ({error.strerror}): give a file such as configs/sweeps/openmoji.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"plan '{path}' is not valid YAML: {' '.join(str(error).split())}"
        ) from None
    where = f"plan '{path}'"
    if not isinstance(tree, dict):
        raise InputError(f"{where} holds no 'key: value' pairs: see docs/sweeps.md")
    tree = _mapping(tree, where)
    if len(pairs) % 2:
        raise InputError(
            f"the options {' '.join(pairs)} are not KEY VALUE pairs: '{pairs[-1]}' lacks its partner"
        )
    options = dict(zip(pairs[::2], pairs[1::2], strict=True))
    slurm = _mapping(tree.pop("slurm", {}), f"{where}: slurm")
    for key, value in options.items():
        if key.lower().startswith("slurm."):
            try:
                slurm[key[6:].lower()] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise InputError(
                    f"{key} is '{value}': write a number, a word, or another YAML value"
                ) from None
    more = {key: value for key, value in options.items() if not key.lower().startswith("slurm.")}
    studies = tree.pop("studies", [{}])
    if not isinstance(studies, list) or not studies:
        raise InputError(f"{where}: studies is {studies!r}: write a list, each beginning with '- '")
    jobs: dict[str, Job] = {}
    for number, own in enumerate(studies, 1):
        here = where if studies == [{}] else f"{where}, study {number}"
        own = _mapping({} if own is None else own, here)
        merged = {**DEFAULTS, **tree, **own}
        for key in ("overrides", "train_overrides"):
            merged[key] = {
                **_mapping(tree.get(key, {}), f"{where}: {key}"),
                **_mapping(own.get(key, {}), f"{here}: {key}"),
            }
        merged["overrides"] |= more
        for job in _expand(_checked(merged, here)):
            if jobs.setdefault(job.folder, job) != job:
                raise InputError(
                    f"{here}: two jobs with different options would write to the same folder '{job.folder}': give one of their studies a name"
                )
    return Plan(path, list(jobs.values()), slurm)


def _mapping(value, where: str) -> dict:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where} is {value!r}: write 'key: value' pairs")
    return dict(value)


def _known(name: str, known: Sequence[str], kind: str, where: str) -> None:
    """Raises InputError with the closest known name."""
    if name not in known:
        close = difflib.get_close_matches(name.lower(), [other.lower() for other in known], 1, 0.5)
        hint = (
            f"did you mean '{next(other for other in known if other.lower() == close[0])}'? "
            if close
            else ""
        )
        raise InputError(
            f"{where}: unknown {kind} '{name}': {hint}known ones are {', '.join(sorted(known))}"
        )


@functools.cache
def _stems(folder: str) -> list[str]:
    """Names of the config files, or folders, in a folder of configs/."""
    return [
        path.stem if path.suffix == ".yaml" else path.name
        for path in sorted((ROOT / "configs" / folder).iterdir())
    ]


def _fits(key: str, value) -> bool:
    """Whether an axis may have this value."""
    if key == "craft":
        return value is True or value is False or value == "mmd"
    return (
        isinstance(value, AXES[key])
        and not isinstance(value, bool)
        and (key != "shots" or value == "all" or isinstance(value, int) and value > 0)
    )


def _crafted(trainer: str, config: str, craft: bool | str) -> tuple[str, str]:
    """Trainer and config of a structure without CRAFT (False), with it (True), and with its MMD term (mmd)."""
    return (f"Craft{trainer}" if craft else trainer), (
        f"{config}_mmd" if craft == "mmd" else config
    )


def _checked(study: dict, where: str) -> dict:
    """The study with lists for axes and {trainer: [configs]}. Raises InputError."""
    for key in study:
        _known(key, KEYS, "key", where)
    for key in ("protocol", "datasets", "trainers"):
        if not study.get(key):
            raise InputError(f"{where} has no {key}: write '{key}: ...'")
    for key in AXES:
        values = study[key] if isinstance(study[key], list) else [study[key]]
        if wrong := [value for value in values if not _fits(key, value)]:
            raise InputError(f"{where}: {key} has {wrong[0]!r}: write {VALUES.get(key, 'names')}")
        study[key] = list(dict.fromkeys(values))
        if not values and key not in ("tests", "targets"):
            raise InputError(f"{where}: {key} is empty: write one value or more")
    protocol, study["name"] = (
        str(study["protocol"]),
        "" if study["name"] is None else str(study["name"]),
    )
    _known(protocol, list(PROTOCOLS), "protocol", where)
    if not re.fullmatch(r"([\w+-][\w.+-]*)?", study["name"]):
        raise InputError(
            f"{where}: name '{study['name']}' becomes a folder: use letters, digits, _ + - and ."
        )
    if protocol == "ablation" and not study["name"]:
        raise InputError(
            f"{where} has no name: each variant of an ablation needs one, for its folder"
        )
    if bool(study["targets"]) != (protocol == "ood"):
        raise InputError(
            f"{where}: "
            + (
                "ood has no targets: write the data sets whose training images are the unlabelled ones"
                if protocol == "ood"
                else f"targets are for protocol ood, not {protocol}: take them out"
            )
        )
    if study["tests"] and not PROTOCOLS[protocol].test:
        raise InputError(
            f"{where}: protocol {protocol} has no tests on other data sets: take tests out"
        )
    for dataset in (*study["datasets"], *study["tests"], *study["targets"]):
        _known(dataset, _stems("datasets"), "data set", where)
    if both := set(study["datasets"]) & {*study["tests"], *study["targets"]}:
        raise InputError(
            f"{where}: '{min(both)}' is both trained on and in tests or targets: train.py tests it after training, so take it out there"
        )
    trainers = study["trainers"]
    if isinstance(trainers, (str, list)):
        if not study["config"]:
            raise InputError(
                f"{where} has no config: write 'config: NAME', or trainers as 'TRAINER: CONFIG' pairs"
            )
        trainers = {
            str(trainer): study["config"]
            for trainer in ([trainers] if isinstance(trainers, str) else trainers)
        }
    study["trainers"] = []
    for structure, configs in _mapping(trainers, f"{where}: trainers").items():
        for config, craft in itertools.product(
            configs if isinstance(configs, list) else [configs], study["craft"]
        ):
            trainer, config = _crafted(structure, str(config), craft)
            _known(trainer, _stems("trainers"), "trainer", where)
            _known(config, _stems(f"trainers/{trainer}"), f"config of {trainer}", where)
            study["trainers"].append((trainer, config))
    for key in ("overrides", "train_overrides"):
        for name, value in study[key].items():
            if name in TAKEN:
                raise InputError(f"{where}: {name} cannot be overridden: {TAKEN[name]}")
            if key == "train_overrides" and name.startswith(("TRAINER.", "MODEL.")):
                raise InputError(
                    f"{where}: {name} is of the model, so that its tests need it, too: move it to overrides"
                )
            if isinstance(value, dict):
                raise InputError(
                    f"{where}: {key} has the group {name}: write whole keys, e.g. '{name}.{next(iter(value), 'KEY')}: value'"
                )
    return study


def _expand(study: dict) -> Iterator[Job]:
    """Each training, followed by its tests."""
    protocol, name = PROTOCOLS[study["protocol"]], study["name"]
    top = f"ablation/{name}/" if study["protocol"] == "ablation" else f"{name}/" if name else ""
    axes = itertools.product(
        study["datasets"],
        study["targets"] or [""],
        study["shots"],
        study["trainers"],
        study["seeds"],
    )
    for dataset, target, shots, (trainer, config), seed in axes:
        frozen = trainer.startswith("ZeroshotCLIP")  # nothing to train: tests stand alone
        place = {
            "dataset": dataset,
            "target": target,
            "shots": shots,
            "trainer": trainer,
            "config": config,
            "seed": seed,
        }
        unlabelled = {"DATASET.TARGET": _registered(target)} if target else {}

        def job(
            folder: str,
            tested: str,
            subset: str,
            overrides: dict,
            trained: str = "",
            place=place,
            frozen=frozen,
        ) -> Job:
            options = [word for key, value in overrides.items() for word in (key, str(value))]
            options += [
                "DATASET.NUM_SHOTS",
                "-1" if place["shots"] == "all" else str(place["shots"]),
                "DATASET.SUBSAMPLE_CLASSES",
                subset,
            ]
            return Job(
                top + folder,
                tested,
                place["trainer"],
                place["config"],
                place["seed"],
                tuple(options),
                frozen or bool(trained),
                trained * (not frozen),
            )

        training = job(
            protocol.train.format(**place),
            dataset,
            protocol.subset,
            study["overrides"] | study["train_overrides"] | unlabelled,
        )
        yield training
        for tested, subsets in [
            (dataset, protocol.own),
            *[(other, protocol.others) for other in study["tests"] or filter(None, [target])],
        ]:
            # Seen from ImageNet, and where the folder says it, a data set goes by its own name.
            plain = (
                tested == dataset
                or "{dataset}" in protocol.test
                or protocol is TRANSFER
                and dataset == "imagenet"
            )
            for subset in subsets:
                folder = protocol.test.format(
                    **place, subset=subset, tested=tested if plain else f"{tested}_from_{dataset}"
                )
                yield job(folder, tested, subset, study["overrides"], training.folder)


@functools.cache
def _registered(dataset: str) -> str:
    """The name in a data set's config."""
    path = Path("configs", "datasets", f"{dataset}.yaml")
    name = (strict_yaml.load((ROOT / path).read_text(encoding="utf-8")).get("DATASET") or {}).get(
        "NAME"
    )
    if not name:
        raise InputError(f"'{path}' has no DATASET.NAME: write it there, not in what BASE names")
    return name


# Configurations


def _key(job: Job) -> tuple:
    """What a job's configuration depends on, but for its seed."""
    return job.dataset, job.trainer, job.config, job.options


def configurations(
    plan: Plan, root: str, output: str
) -> tuple[dict[tuple, object], dict[str, str]]:
    """({what jobs share: configuration}, {folder: hash}), as train.py makes them. Raises InputError naming the plan and an unknown name or key."""
    import train
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY, run_hash
    from dassl.engine.trainer import check_basics
    from dassl.utils import UserError, check_availability

    found: dict[tuple, object] = {}
    hashes: dict[str, str] = {}
    for job in plan.jobs:
        key = _key(job)
        try:
            if key not in found:
                found[key] = train.setup_cfg(
                    train.parse_args([*job.settings(root, output), *job.options])
                )
                check_basics(found[key])
                check_availability(
                    found[key].TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "trainer"
                )
                for name in filter(
                    None, (found[key].DATASET.NAME, found[key].DATASET.get("TARGET", ""))
                ):
                    check_availability(name, DATASET_REGISTRY.registered_names(), "data set")
            cfg = found[key]
            cfg.defrost()
            cfg.SEED = job.seed
            hashes[job.folder] = run_hash(cfg)
        except UserError as error:
            raise InputError(f"plan '{plan.path}': {error}") from None
    return found, hashes


def _stat(path: str) -> list[int]:
    try:
        found = os.stat(path)
        return [found.st_size, found.st_mtime_ns]
    except OSError:
        return []


def _fingerprint(plan: Plan) -> str:
    """Of all that hashes follow from but for weights and data: jobs, code and config files. Importing torch to compute them again takes seconds."""
    files = sorted(
        str(path)
        for top in ("dassl", "trainers", "datasets", "configs")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".yaml")
    )
    state = [(path, _stat(path)) for path in (*files, str(ROOT / "train.py"))]
    return hashlib.sha256(repr((plan.jobs, state)).encode()).hexdigest()


def _cache(plan: Plan, output: str) -> Path:
    return Path(output, ".sweep", f"{plan.stem}.json")


def known_hashes(plan: Plan, output: str) -> dict[str, str]:
    """{folder: hash} as computed before; {} if anything changed since then."""
    cache = launchers.read(_cache(plan, output))
    same = cache.get("fingerprint") == _fingerprint(plan) and all(
        _stat(path) == state for path, state in cache.get("files", {}).items()
    )
    return cache["hashes"] if same else {}


def _looked_at(plan: Plan, found: dict[tuple, object]) -> set[str]:
    """Weights, and files and folders of data sets, present or not, that hashes follow from."""
    from dassl.engine import data_files

    paths: set[str] = set()
    for job in plan.jobs:
        cfg = found[_key(job)]
        cfg.SEED = job.seed
        paths |= {cfg.MODEL.BACKBONE.NAME, cfg.MODEL.INIT_WEIGHTS, *data_files(cfg).values()}
    return {path for path in paths if path} | {
        folder for path in paths if os.path.isdir(path) for folder in folders_below(path)
    }


def keep_hashes(
    plan: Plan, output: str, found: dict[tuple, object], hashes: dict[str, str]
) -> None:
    """For `known_hashes`; not being able to write costs only time."""
    from dassl.utils import UserError, write_json

    files = {path: _stat(path) for path in _looked_at(plan, found)}
    try:
        write_json(
            {"fingerprint": _fingerprint(plan), "files": files, "hashes": hashes},
            str(_cache(plan, output)),
        )
    except (UserError, OSError):
        pass


def difference(job: Job, output: str, cfg) -> str:
    """How the run in the job's folder differs from the job."""
    import train

    cfg.SEED = job.seed
    return train.other_run(
        launchers.read(Path(output, job.folder, launchers.RESULTS)), cfg, job.loads(output)
    )


# Listing


def table(jobs: Sequence[Job], states: dict[str, tuple[str, str]]) -> str:
    """A line for all seeds of a run, with the seeds in each state."""
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for job in jobs:
        rows[job.folder.rpartition("/")[0]][states[job.folder][0]].append(job.seed)
    shown = [
        state for state in STATES if state != "queued" or any(state in row for row in rows.values())
    ]
    lines = [
        [folder, *[" ".join(map(str, row[state])) for state in shown]]
        for folder, row in rows.items()
    ]
    return markdown(["runs (seeds in each state)", *shown], lines)


def summary(states: dict[str, tuple[str, str]]) -> str:
    count = Counter(state for state, _ in states.values())
    return f"{len(states)} jobs: " + ", ".join(
        f"{count[state]} {state}" for state in STATES if count[state]
    )


def survey(plan: Plan, output: str, hashes: dict[str, str]) -> dict[str, tuple[str, str]]:
    """{folder: (state, note)}."""
    slurm = functools.cache(launchers.slurm_jobs)
    states: dict[str, tuple[str, str]] = {}
    for job in plan.jobs:
        state = launchers.state_of(job, output, hashes[job.folder], slurm)
        # A test is of no more worth than its training.
        states[job.folder] = (
            ("missing", "")
            if state[0] == "done" and states.get(job.trained, ("done", ""))[0] != "done"
            else state
        )
    return states


# Launching


def check_data(jobs: Sequence[Job], found: dict[tuple, object], root: str) -> None:
    """Raise InputError if the data root, or the folder of a data set that the jobs read, is not there."""
    from dassl.data.datasets import DATASET_REGISTRY

    if not os.path.isdir(root):
        raise InputError(
            f"data root '{root}' does not exist: create it with datasets.prepare, or correct --root"
        )
    for cfg in {_key(job): found[_key(job)] for job in jobs}.values():
        for name in filter(None, (cfg.DATASET.NAME, cfg.DATASET.get("TARGET", ""))):
            kind = DATASET_REGISTRY.get(name)
            folder = os.path.join(
                root, getattr(kind, "folder", "") or cfg.DATASET.get("FOLDER", "")
            )
            if not os.path.isdir(folder):
                how = kind.how_to_get(root) if hasattr(kind, "how_to_get") else "correct --root"
                raise InputError(f"folder '{folder}' of data set {name} does not exist: {how}")


def slots(jobs: int | None, use_cuda: bool) -> tuple[list[str], int]:
    """(CUDA_VISIBLE_DEVICES of each worker, CPU threads of each): a worker per GPU, or, without any, one per core up to four."""
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    count = torch.cuda.device_count() if use_cuda else 0
    devices = [""] * (jobs or min(4, cores))
    if count:
        names = list(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","))) or [
            str(number) for number in range(count)
        ]
        devices = [names[number % count] for number in range(jobs or count)]
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    threads = re.fullmatch(
        r"0*([1-9]\d*)(\s*,.*)?", given
    )  # OpenMP takes a list: how many threads on each level of nesting
    if given and not threads:
        raise InputError(
            f"OMP_NUM_THREADS is '{given}': set it to a number of threads from 1, or unset it"
        )
    return devices, int(threads[1]) if threads else max(1, cores // len(devices))


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, and SIGHUP unless it is ignored (nohup), stop a sweep as Ctrl-C does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launch(
    args: argparse.Namespace,
    plan: Plan,
    found: dict[tuple, object],
    states: dict[str, tuple[str, str]],
) -> None:
    """Run what is not done. Raises InputError for what can be known to go wrong before the first job starts."""
    todo = [job for job in plan.jobs if states[job.folder][0] != "done"]
    check_data(todo, found, args.root)
    try:
        os.makedirs(args.output, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"output folder '{args.output}' cannot be made ({error.strerror}): choose another --output"
        ) from None
    executor = (
        launchers.slurm_executor(Path(args.output, ".sweep", plan.stem), plan.slurm)
        if args.launch == "slurm"
        else None
    )
    view = launchers.View(plan.jobs, todo)
    try:
        if executor is None:
            devices, threads = slots(args.jobs, any(found[_key(job)].USE_CUDA for job in todo))
            view.say(
                f"{len(todo)} of {len(plan.jobs)} jobs to run, {len(devices)} at a time, {threads} CPU thread(s) each"
            )
            launchers.run_local(todo, args.root, args.output, devices, threads, args.retries, view)
            return
        queued = {
            job.folder: states[job.folder][1].split()[-1]
            for job in todo
            if states[job.folder][1].startswith("Slurm job")
        }
        fresh = [job for job in todo if job.folder not in queued]
        ids = queued | launchers.submit(
            executor, fresh, queued, args.root, args.output, args.retries
        )
        view.say(
            f"{len(ids)} of {len(plan.jobs)} jobs are with Slurm"
            + ("" if args.detach else ": Ctrl-C cancels them")
        )
        if not args.detach:
            launchers.watch(ids, args.output, view)
    finally:
        view.close()


def sweep(args: argparse.Namespace) -> int:
    """0; 1 if jobs failed. Raises InputError for bad input."""
    args.plan, args.root, args.output = (
        os.path.abspath(os.path.expanduser(path)) for path in (args.plan, args.root, args.output)
    )
    os.chdir(ROOT)  # configs name files from here
    plan = read_plan(args.plan, args.pairs)
    if args.jobs is not None and args.jobs < 1 or args.retries < 0:
        raise InputError("--jobs takes a number from 1, --retries from 0")
    if args.detach and args.launch != "slurm":
        raise InputError("--detach needs --launch slurm: jobs on this machine end with the sweep")
    found, hashes = None, known_hashes(plan, args.output)

    def configure():
        nonlocal found, hashes
        if found is None:
            found, hashes = configurations(plan, args.root, args.output)
            keep_hashes(plan, args.output, found, hashes)

    if not hashes:
        configure()
    states = survey(plan, args.output, hashes)
    if others := [job for job in plan.jobs if states[job.folder][0] == "other"]:
        configure()
        lines = [
            f"'{args.output}/{job.folder}/results.json' ({difference(job, args.output, found[_key(job)])})"
            for job in others[:3]
        ]
        raise InputError(
            f"{len(others)} folder(s) hold results of another run: {', '.join(lines)}{', ...' if len(others) > 3 else ''}; "
            "move them away, or choose another --output"
        )
    if args.list or not args.launch:
        sys.stdout.write(f"{table(plan.jobs, states)}\n\n{summary(states)}\n")
        sys.stdout.write(
            "".join(
                f"failed: {folder}: {note}\n"
                for folder, (state, note) in states.items()
                if state == "failed"
            )
        )
        return 0
    if any(state != "done" for state, _ in states.values()):
        configure()
        launch(args, plan, found, states)
        states = survey(plan, args.output, hashes)
    open_jobs = {folder: note for folder, (state, note) in states.items() if state != "done"}
    sys.stdout.write(
        "".join(
            f"{states[folder][0]}: {folder}{f': {note}' if note else ''}\n"
            for folder, note in open_jobs.items()
        )
    )
    sys.stdout.write(f"{summary(states)}\n")
    return 0 if not open_jobs or args.detach else 1


def main(arguments: list[str] | None = None) -> int:
    """0: nothing failed; 1: jobs failed; 2: bad input, in one sentence; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.sweep",
        allow_abbrev=False,
    )
    parser.add_argument(
        "plan",
        type=os.path.expanduser,
        metavar="PLAN.yaml",
        help="e.g. configs/sweeps/openmoji.yaml",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="show which jobs are done, running, failed, missing (the default; wins over --launch)",
    )
    parser.add_argument(
        "--launch",
        choices=("local", "slurm"),
        help="run what is not done: on this machine, or by Slurm",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="so many at a time on this machine (default: one per GPU; without GPU one per core, up to 4)",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=1,
        metavar="R",
        help="try a job that failed again, so many times (default 1)",
    )
    parser.add_argument("--detach", action="store_true", help="slurm: do not wait for the jobs")
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default=os.environ.get("DATA") or str(ROOT / "data"),
        metavar="DATA",
        help="folder of the data sets (default $DATA or data)",
    )
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        default=str(ROOT / "output"),
        metavar="DIR",
        help="where results go (default output)",
    )
    parser.add_argument(
        "pairs",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys for every run; slurm.OPTION VALUE for Slurm",
    )
    with stoppable():
        return inputs.main(
            sweep,
            parser.parse_intermixed_args(arguments),
            interrupted="interrupted: run the same command again to go on",
        )


if __name__ == "__main__":
    sys.exit(main())
