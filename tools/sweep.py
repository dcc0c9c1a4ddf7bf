"""Many runs from one plan: `python -m tools.sweep PLAN.yaml [options] [KEY VALUE ...]`.

A plan lists axes (data sets, trainers, shots, seeds) and expands to runs of train.py in CoOp's
output folders: trainings, and tests of their models. `--list` shows which are done, running,
failed, missing; `--launch` runs what is not done. docs/sweeps.md describes plans.
"""

import argparse
import functools
import hashlib
import os
import re
import shlex
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from yacs.config import CfgNode

from dassl import files, record
from dassl.identity import folders_below
from tools import configs, inputs, launchers
from tools.arguments import PAIRS, Parser
from tools.configs import ROOT
from tools.inputs import InputError
from tools.launchers import Job
from tools.plans import Plan, read_plan
from tools.results import markdown

STATES = ("done", "running", "queued", "failed", "missing")


# Configurations


def _key(job: Job) -> tuple:
    """What decides on a job's configuration, except for the seed."""
    return job.dataset, job.trainer, job.config, job.files, job.options, job.repeats


def configurations(
    plan: Plan, root: str, output: str
) -> tuple[dict[tuple, CfgNode], dict[str, str]]:
    """({what jobs share: configuration}, {folder: hash}), as train.py makes them.

    Raises InputError naming the plan and an unknown name or key.
    """
    from dassl.engine import run_hash, run_settings
    from dassl.utils import UserError

    cfgs: dict[tuple, CfgNode] = {}
    settings: dict[tuple, dict] = {}
    hashes: dict[str, str] = {}
    for job in plan.jobs:
        key = _key(job)
        try:
            if key not in cfgs:
                cfgs[key] = _configuration(job, root, output)
                cfgs[key].defrost()
                settings[key] = run_settings(cfgs[key])
            cfg = cfgs[key]
            cfg.SEED = settings[key]["SEED"] = job.seed
            hashes[job.folder] = run_hash(cfg, settings=settings[key])
        except UserError as error:
            raise InputError(f"plan '{plan.path}': {error}") from None
    return cfgs, hashes


def _configuration(job: Job, root: str, output: str):
    """The configuration of a job, checked. Raises UserError."""
    import train
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY
    from dassl.engine.trainer import check_basics
    from dassl.utils import check_availability

    cfg = train.setup_cfg(train.parse_args([*job.settings(root, output), *job.pairs(output)]))
    check_basics(cfg)
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names(), "trainer")
    for name in _datasets(cfg):
        check_availability(name, DATASET_REGISTRY.registered_names(), "data set")
    return cfg


def without_effect(plan: Plan, cfgs: dict[tuple, CfgNode]) -> list[str]:
    """Sentences on keys that a user wrote and all runs of a trainer leave unread.

    Raises InputError, naming the plan, for a key that all runs of all trainers leave unread.
    """
    from tools.effects import unread

    reasons: dict[str, dict[str, str]] = defaultdict(dict)
    for job in {_key(job): job for job in plan.jobs}.values():
        for key in plan.given.intersection(job.options[::2]):
            reason = unread(cfgs[_key(job)], key)
            reasons[key][job.trainer] = reasons[key].get(job.trainer, reason) and reason
    for key, of in sorted(reasons.items()):
        if all(of.values()):
            raise InputError(
                f"plan '{plan.path}': {key} has no effect on any run "
                f"({next(iter(of.values()))}): take it out"
            )
    return [
        f"{key} has no effect on {trainer}: {reason}"
        for key, of in sorted(reasons.items())
        for trainer, reason in of.items()
        if reason and configs.learns(trainer)  # settings of a plan are not for zero-shot CLIP
    ]


def _datasets(cfg) -> list[str]:
    """Registered names of the data sets that a run reads."""
    return [name for name in (cfg.DATASET.NAME, cfg.DATASET.get("TARGET", "")) if name]


def _stat(path: str) -> list[int]:
    try:
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    except OSError:
        return []


def _fingerprint(plan: Plan) -> str:
    """A checksum of all that decides on hashes except weights and data: jobs, code, configs.

    Computing the hashes again takes seconds, since it needs torch.
    """
    files = sorted(
        str(path)
        for top in ("dassl", "trainers", "datasets", "configs")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".yaml")
    )
    files += [str(ROOT / name) for name in ("train.py", "tools/configs.py")]
    files += sorted({file for job in plan.jobs for file in job.files})
    state = [(path, _stat(path)) for path in files]
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


def _looked_at(plan: Plan, cfgs: dict[tuple, CfgNode]) -> set[str]:
    """Weights, and files and folders of data sets, present or not, that decide on hashes."""
    from dassl.config import file_part
    from dassl.engine import data_files

    paths: set[str] = set()
    for job in plan.jobs:
        cfg = cfgs[_key(job)]
        cfg.SEED = job.seed
        paths |= {cfg.MODEL.INIT_WEIGHTS, *data_files(cfg).values()}
        paths.add(file_part(cfg.MODEL.BACKBONE.NAME))
    return {path for path in paths if path} | {
        folder for path in paths if os.path.isdir(path) for folder in folders_below(path)
    }


def keep_hashes(
    plan: Plan, output: str, cfgs: dict[tuple, CfgNode], hashes: dict[str, str]
) -> None:
    """Write what `known_hashes` reads; a failure costs only time."""
    from dassl.utils import UserError, write_json

    files = {path: _stat(path) for path in _looked_at(plan, cfgs)}
    content = {"fingerprint": _fingerprint(plan), "files": files, "hashes": hashes}
    with suppress(UserError, OSError):
        write_json(content, str(_cache(plan, output)))


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
        # A test is of no more worth than its training, nor JTT's second run than its first.
        based = all(states.get(folder, ("done", ""))[0] == "done" for folder in job.needs)
        states[job.folder] = state if based or state[0] != "done" else ("missing", "")
    return states


# Launching


def check_data(jobs: Sequence[Job], cfgs: dict[tuple, CfgNode], root: str) -> None:
    """Raise InputError if the data root, or the folder of a data set, is missing."""
    from dassl.data.datasets import DATASET_REGISTRY

    if not os.path.isdir(root):
        raise InputError(
            f"data root '{root}' does not exist: create it with datasets.prepare, or correct --root"
        )
    for cfg in {_key(job): cfgs[_key(job)] for job in jobs}.values():
        for name in _datasets(cfg):
            kind = DATASET_REGISTRY.get(name)
            folder = os.path.join(
                root, getattr(kind, "folder", "") or cfg.DATASET.get("FOLDER", "")
            )
            if not os.path.isdir(folder):
                how = kind.how_to_get(root) if hasattr(kind, "how_to_get") else "correct --root"
                raise InputError(f"folder '{folder}' of data set {name} does not exist: {how}")


def slots(jobs: int | None, use_cuda: bool) -> tuple[list[str], int]:
    """(CUDA_VISIBLE_DEVICES of each worker, CPU threads of each).

    There is a worker per GPU, or, without any, one per core up to four.
    """
    import torch

    count = torch.cuda.device_count() if use_cuda else 0
    devices = [""] * (jobs or min(4, launchers.cores()))
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
    return devices, int(threads[1]) if threads else max(1, launchers.cores() // len(devices))


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


class Sweep:
    """A plan whose runs read data sets below `root` and write below `output`, absolute paths."""

    def __init__(self, plan: Plan, root: str, output: str):
        self.plan, self.root, self.output = plan, root, output
        self.notes: list[str] = []  # known with the configurations
        self.hashes = known_hashes(plan, output) or self._configured[1]
        self.states = survey(plan, output, self.hashes)

    @functools.cached_property
    def _configured(self) -> tuple[dict[tuple, CfgNode], dict[str, str]]:
        """`configurations`; computing them takes torch."""
        cfgs, hashes = configurations(self.plan, self.root, self.output)
        self.notes = without_effect(self.plan, cfgs)
        keep_hashes(self.plan, self.output, cfgs, hashes)
        return cfgs, hashes

    def refuse_others(self) -> None:
        """Raise InputError if folders of jobs hold results of other runs."""
        others = [job for job in self.plan.jobs if self.states[job.folder][0] == "other"]
        if others:
            lines = [
                f"'{self.output}/{job.folder}/results.json' ({self._difference(job)})"
                for job in others[:3]
            ]
            raise InputError(
                f"{len(others)} folder(s) hold results of another run: "
                f"{', '.join(lines)}{', ...' if len(others) > 3 else ''}; "
                "move them away, or choose another output folder (--output; OUTPUT of the scripts)"
            )

    def _difference(self, job: Job) -> str:
        """How the run in a job's folder differs from the job."""
        cfg = self._configured[0][_key(job)]
        cfg.SEED = job.seed
        results = launchers.read(Path(self.output, job.folder, record.NAME))
        return record.difference(results, cfg, self.hashes[job.folder], job.takes(self.output))

    def listing(self) -> str:
        """The states of all jobs, and why jobs failed."""
        reasons = [
            f"failed: {folder}: {note}\n"
            for folder, (state, note) in self.states.items()
            if state == "failed"
        ]
        return f"{table(self.plan.jobs, self.states)}\n\n{summary(self.states)}\n{''.join(reasons)}"

    def configuration(self, job: Job) -> CfgNode:
        """The configuration of a job, whose seed may be another's."""
        return self._configured[0][_key(job)]

    def launch(
        self, where: str, jobs: int | None = None, retries: int = 1, detach: bool = False
    ) -> int:
        """`submit` for "slurm", else `run`."""
        return self.submit(retries, detach) if where == "slurm" else self.run(jobs, retries)

    def run(self, jobs: int | None = None, retries: int = 1) -> int:
        """Run on this machine what is not done, `jobs` at a time; 1 if jobs failed, else 0."""
        if todo := self._todo():
            cfgs = self._configured[0]
            devices, threads = slots(jobs, any(cfgs[_key(job)].USE_CUDA for job in todo))
            with self._view(todo) as view:
                view.say(
                    f"{len(todo)} of {len(self.plan.jobs)} jobs to run, {len(devices)} at a time, "
                    f"{threads} CPU thread(s) each"
                )
                launchers.run_local(todo, self.root, self.output, devices, threads, retries, view)
        return self._finish(todo)

    def submit(self, retries: int = 1, detach: bool = False) -> int:
        """Let Slurm run what is neither done nor queued; 1 if jobs failed, else 0.

        detach: return 0 at once.
        """
        if todo := self._todo():
            folder = Path(self.output, ".sweep", self.plan.stem)
            executor = launchers.slurm_executor(folder, self.plan.slurm)
            with self._view(todo) as view:
                notes = {job.folder: self.states[job.folder][1] for job in todo}
                queued = {
                    folder: note.split()[-1]
                    for folder, note in notes.items()
                    if note.startswith("Slurm job")
                }
                fresh = [job for job in todo if job.folder not in queued]
                ids = queued | launchers.submit(
                    executor, fresh, queued, self.root, self.output, retries
                )
                end = "" if detach else ": Ctrl-C cancels them"
                view.say(f"{len(ids)} of {len(self.plan.jobs)} jobs are with Slurm{end}")
                if not detach:
                    launchers.watch(ids, self.output, view)
        code = self._finish(todo)
        return 0 if detach else code

    def _todo(self) -> list[Job]:
        """Jobs that are not done. Raises InputError if data or the output folder is missing."""
        todo = [job for job in self.plan.jobs if not self._is_done(job.folder)]
        if todo:
            self._check_models(todo)
            check_data(todo, self._configured[0], self.root)
            for note in self.notes:
                sys.stdout.write(f"note: {note}\n")
            try:
                os.makedirs(self.output, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"output folder '{self.output}' cannot be made ({error.strerror}): choose "
                    "another --output"
                ) from None
        return todo

    def _check_models(self, todo: Sequence[Job]) -> None:
        """Raise InputError if a model to test is one that an archive left out."""
        done = {job.trained for job in todo if job.trained and self._is_done(job.trained)}
        folders = {folder: Path(self.output, folder) for folder in sorted(done)}
        lacking = [
            folder
            for folder, path in folders.items()
            if files.lacks_checkpoints(
                str(path), record.tested_epoch(record.peek(path / record.NAME))
            )
        ]
        if lacking:
            raise InputError(
                f"{len(lacking)} model(s) to test came from an archive, which holds no checkpoints "
                f"('{self.output}/{lacking[0]}'{', ...' if len(lacking) > 1 else ''}): delete "
                "these folders, and the same command trains the models again"
            )

    def _is_done(self, folder: str) -> bool:
        return self.states[folder][0] == "done"

    def _view(self, todo: list[Job]):
        return closing(launchers.View(self.plan.jobs, todo, self.output))

    def _hash(self, job: Job) -> str:
        """The hash of a job, as its data are now."""
        from dassl.engine import run_hash

        cfg = self.configuration(job)
        cfg.SEED = job.seed
        return run_hash(cfg)

    def _finish(self, ran: Sequence[Job]) -> int:
        """Print what is not done and how to get the tables; 1 if something is not done, else 0."""
        for job in ran:
            if job.repeats:  # what its first run got wrong is known now
                self.hashes[job.folder] = self._hash(job)
        self.states = survey(self.plan, self.output, self.hashes)
        missing = {folder: state for folder, state in self.states.items() if state[0] != "done"}
        for folder, (state, note) in missing.items():
            sys.stdout.write(f"{state}: {folder}{f': {note}' if note else ''}\n")
        sys.stdout.write(f"{summary(self.states)}\n")
        for name in self.plan.protocols:
            sys.stderr.write(f"table: python -m tools.results {name} {shlex.quote(self.output)}\n")
        return 1 if missing else 0


def check_numbers(args: argparse.Namespace) -> None:
    """Raise InputError for a --jobs or --retries out of range."""
    if args.jobs is not None and args.jobs < 1 or args.retries < 0:
        raise InputError("--jobs takes a number from 1, --retries from 0")


def sweep(args: argparse.Namespace) -> int:
    """0; 1 if jobs failed. Raises InputError for bad input."""
    path, root, output = map(files.absolute, (args.plan, args.root, args.output))
    os.chdir(ROOT)  # configs name files from here
    plan = read_plan(path, args.pairs)
    check_numbers(args)
    if args.detach and args.launch != "slurm":
        raise InputError("--detach needs --launch slurm: jobs on this machine end with the sweep")
    runs = Sweep(plan, root, output)
    runs.refuse_others()
    if args.list or not args.launch:
        sys.stdout.write(runs.listing())
        return 0
    return runs.launch(args.launch, args.jobs, args.retries, args.detach)


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """--jobs and --retries, which `check_numbers` checks."""
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="so many at a time here (default: one per GPU; without GPU one per core, up to 4)",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=1,
        metavar="R",
        help="try a failed run again so many times (default 1)",
    )


def add_root(parser: argparse.ArgumentParser, what: str = "folder of the data sets") -> None:
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default=os.environ.get("DATA") or str(ROOT / "data"),
        metavar="DATA",
        help=f"{what} (default $DATA or data)",
    )


def add_folders(parser: argparse.ArgumentParser) -> None:
    add_root(parser)
    parser.add_argument(
        "--output",
        type=os.path.expanduser,
        default=str(ROOT / "output"),
        metavar="DIR",
        help="where results go (default output)",
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.sweep",
        allow_abbrev=False,
    )
    parser.add_argument(
        "plan",
        type=os.path.expanduser,
        metavar="PLAN.yaml",
        help="e.g. configs/sweeps/suite.yaml",
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
    add_numbers(parser)
    parser.add_argument("--detach", action="store_true", help="slurm: do not wait for the jobs")
    add_folders(parser)
    parser.add_argument(
        "pairs",
        nargs="*",
        metavar=PAIRS,
        help="config keys for every run; slurm.OPTION VALUE for Slurm",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: nothing failed; 1: jobs failed; 2: bad input, in one sentence; 130: Ctrl-C."""
    parser = _parser()
    with stoppable():
        return inputs.main(
            sweep,
            parser.parse_intermixed_args(arguments),
            interrupted="interrupted: run the same command again to go on",
        )


if __name__ == "__main__":
    sys.exit(main())
