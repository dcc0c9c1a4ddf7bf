"""Jobs of a sweep and what runs them: processes on this machine, or Slurm, both through submitit.

A job is a run of train.py in a folder of its own. It runs in a forked process: torch is imported
once per worker, not once per job, and whatever happens to a job (kill -9, out of memory, a
segmentation fault) happens to it alone. While it runs it holds a lock on the file sweep.json in its
folder, which the system lets go of however the process ends; what is left of that file tells why a
job failed.
"""

import ctypes
import datetime
import fcntl
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from dassl import files, record
from dassl.identity import of_settings, same_run
from dassl.record import Description
from tools import configs
from tools.configs import ROOT
from tools.inputs import InputError

MARK, ERRORS, RESULTS = record.MARK, record.ERRORS, record.NAME
# Exit codes: Ctrl-C; another process runs this job; the worker itself is gone.
INTERRUPTED, BUSY, LOST = 130, 75, -1000
READY = "ready"  # a worker's first word
BAD_INPUT = 2  # what train.py ends with after a sentence to the user: trying again is of no use
NO_WORD = "ended without a word: the machine stopped, or job and sweep were killed"
TEMPORARY = "craft-sweep"  # begins the names of temporary folders
GRACE_S = 10  # for a job to clean up after Ctrl-C
BUSY_S = 3  # between looks at a job that another sweep runs
FORK = multiprocessing.get_context("fork")


def cores() -> int:
    """Cores that this process may use."""
    with suppress(AttributeError, OSError):  # not every system tells
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """A run of train.py. Folders are below the output folder.

    trained: the folder of the run whose model is tested. repeats: that of the test whose errors
    are trained on more often (JTT).

    options: KEY, VALUE, ... test: whether nothing is trained. files: config files that a selection
    wrote, instead of those of `configs`. run: what the record is to tell of it.
    """

    folder: str
    dataset: str
    trainer: str
    config: str
    seed: int
    options: tuple[str, ...]
    test: bool = False
    trained: str = ""
    repeats: str = ""
    files: tuple[str, ...] = ()
    run: Description = field(default=Description(), compare=False)

    def settings(self, root: str, output: str) -> list[str]:
        """Those of train.py's arguments that decide on the configuration, without the options."""
        files = self.files or configs.files(self.trainer, self.config)
        return [
            *("--root", root, "--seed", str(self.seed), "--trainer", self.trainer, "--skip-done"),
            *("--output-dir", f"{output}/{self.folder}"),
            *("--dataset-config-file", configs.dataset_file(self.dataset)),
            *(word for file in files for word in ("--config-file", file)),
        ]

    @property
    def needs(self) -> list[str]:
        """The folders of the runs that it comes after."""
        return [folder for folder in (self.trained, self.repeats) if folder]

    def pairs(self, output: str) -> list[str]:
        """KEY, VALUE, ... of all options, those that name another run's folder among them."""
        errors = ("DATASET.REPEAT_FROM", f"{output}/{self.repeats}") if self.repeats else ()
        return [*self.options, *errors]

    def arguments(self, root: str, output: str, epoch: int | str | None = None) -> list[str]:
        """train.py's arguments.

        epoch: what a test loads, instead of the epoch that the training deployed.

        Raises InputError if the run whose model it tests is not complete.
        """
        flags = self._described()
        if self.test:
            flags.append("--eval-only")
        if self.trained:
            loaded = self.loads(output)
            if loaded is None:
                raise InputError(f"'{output}/{self.trained}' holds no finished run: train it first")
            flags += ["--model-dir", f"{output}/{self.trained}"]
            epoch = loaded["epoch"] if epoch is None else epoch
            if epoch is not None:
                flags += ["--load-epoch", str(epoch)]
        return [*self.settings(root, output), *flags, *self.pairs(output)]

    def _described(self) -> list[str]:
        """Flags that tell train.py what the run is for; the record repeats them."""
        run = self.run
        known = {
            "--protocol": run.protocol,
            "--study": run.study,
            "--source": run.source if run.part == "test" else "",
            "--target": run.target,
        }
        return [word for flag, value in known.items() if value for word in (flag, value)]

    def takes(self, output: str) -> record.Models:
        """The models of other runs that it takes, for the record."""
        return record.Models(loaded=self.loads(output))

    def loads(self, output: str) -> dict | None:
        """What the record has under "loaded"; None for a training, or a model not yet trained."""
        if not self.trained:
            return {"model_dir": "", "epoch": None} if self.test else None
        deployed = record.deployed(Path(output, self.trained))
        model_dir = os.path.relpath(self.trained, self.folder)
        return deployed and {"model_dir": model_dir, **deployed}


read = record.peek  # of marks, too


def _unreadable(path: Path) -> str:
    """The system's reason why a file cannot be read; "" if it can."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return _refused(path, error)
    return ""


def _refused(path: Path | str, error: OSError) -> str:
    return f"'{path}' cannot be read ({error.strerror}): correct its rights, or look after the disk"


# What is known of a job


def state_of(
    job: Job, output: str, wanted: str, live: Callable[[], dict | None]
) -> tuple[str, str]:
    """(done, running, queued, failed, missing or other; a note).

    wanted: the hash of the job's configuration. live: asks Slurm for its jobs. A job is done when
    its results are complete, match this configuration and model, and are newer than the model: as
    train.py --skip-done has it.
    """
    path = Path(output, job.folder, RESULTS)
    results, taken = read(path), job.takes(output)
    if not results and os.path.exists(path):
        refused = _unreadable(path) if files.is_file(path) else ""
        return "failed", refused or f"'{path}' is not what a run writes: restore or delete it"
    if (
        job.trained and taken.loaded is None
    ):  # a test of a training that is not done has no model yet
        if results and not same_run(results.get("config_hash"), wanted):
            return "other", ""
    elif results and not record.is_of(results, wanted, taken):
        # Whose errors it repeats is not known before the first run's are.
        errors = job.repeats and not files.is_file(Path(output, job.repeats, RESULTS))
        if not errors or of_settings(str(results.get("config_hash"))) != of_settings(wanted):
            return "other", ""
    else:
        model_dir = str(Path(output, job.trained)) if job.trained else ""
        try:
            if record.is_done(results, path, wanted, taken, model_dir):
                return "done", ""
        except OSError as error:
            return "failed", _refused(error.filename, error)
    return _state_by_mark(path.parent, live)


def _state_by_mark(folder: Path, live: Callable[[], dict | None]) -> tuple[str, str]:
    """The state of a job without results, by what its process wrote into its folder."""
    marked = read(folder / MARK)
    state, number = marked.get("state", "missing"), str(marked.get("slurm", ""))
    if state != "missing" and locked(folder / MARK):
        return "running", f"process {marked.get('pid', '?')} on {marked.get('host', '?')}"
    if files.is_locked(str(folder)):
        return "running", "a train.py started by hand"
    if number and state in ("queued", "running", "stopped"):
        alive = live()
        if alive is None or number in alive:  # after preemption a job waits for its next turn
            return "running" if state == "running" else "queued", f"Slurm job {number}"
    if state == "failed":
        return "failed", marked.get("error", "")
    if state == "running":
        return "failed", NO_WORD
    return "missing", "stopped before its end" if state == "stopped" else ""


def locked(path: Path) -> bool:
    """Whether a living process runs the job with this mark."""
    if not files.is_file(path):
        return False
    with suppress(OSError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def mark(folder: Path, state: str, **more) -> None:
    """Write the mark in place: an atomic rename would replace the locked file.

    Readers ignore a half-written mark.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(
        json.dumps(
            {"state": state, "time": datetime.datetime.now().isoformat(timespec="seconds"), **more}
        )
    )


def stopped(folder: Path) -> None:
    """Mark a job that was stopped; Slurm may start it again."""
    mark(folder, "stopped", slurm=read(folder / MARK).get("slurm", ""))


def why(code: int, folder: Path) -> str:
    """Why a job ended with this exit code, in a sentence; a negative code is a signal's."""
    if refusal := _refusal(folder):
        return refusal
    reason = ""
    with suppress(OSError):
        lines = [
            line.strip()
            for line in (folder / ERRORS).read_text(errors="replace").splitlines()
            if line.strip()
        ]
        reason = next(
            (line for line in reversed(lines) if line.startswith("error: ")),
            lines[-1] if lines else "",
        ).removeprefix("error: ")
    if code == LOST:
        return "the worker that ran it was killed"
    if code == -signal.SIGKILL:
        return "killed (signal 9): out of memory, or somebody's kill -9"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"killed by {name}" + (f": {reason}" if reason else "")
    return reason or f"exit code {code}, and nothing said: see log.txt"


def _refusal(folder: Path) -> str:
    """Why nothing can be written to a job's folder, not even a reason; "" if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(8192))
    except OSError as error:
        return (
            f"'{folder}' cannot be written to ({error.strerror}): free space, or choose another "
            "--output"
        )
    return ""


# A job's process


def _run(job: Job, root: str, output: str, slurm: str) -> None:
    """In a forked process: train.py's main under the folder's lock, then the process ends.

    Errors go to a file.
    """
    os.setsid()  # it hears of Ctrl-C once, from its worker, and its data loaders can be found
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(
        signal.SIGUSR2, signal.SIG_IGN
    )  # Slurm tells everybody that time is up; the parent takes care of it
    folder = Path(output, job.folder)
    try:
        try:
            lock = _claim(folder, slurm)
            if lock is None:
                sys.exit(BUSY)
            _redirect(folder / ERRORS)
        except OSError:
            sys.exit(1)  # `why` finds out
        code = _train(job.arguments(root, output))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        code = BAD_INPUT
    except KeyboardInterrupt:
        code = INTERRUPTED
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends anyway
    with suppress(OSError):
        if code == INTERRUPTED:
            stopped(folder)
        elif code == 0:
            for name in (MARK, ERRORS):
                (folder / name).unlink(missing_ok=True)
    sys.exit(code)


def _train(arguments: list[str]) -> int:
    """train.py's exit code.

    Where CUDA was asked before this process was forked, it does not work here: then of a new one.
    """
    import torch

    if getattr(torch.cuda, "_is_in_bad_fork", bool)():
        process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *arguments])
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            return process.wait()
    import train

    return train.main(train.parse_args(arguments))


def _die_with_parent() -> None:
    """A killed worker takes its job with it (Linux; elsewhere the job goes on to its end)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _claim(folder: Path, slurm: str):
    """The job's mark, locked until this process ends; None if another process runs the job."""
    folder.mkdir(parents=True, exist_ok=True)
    if files.is_locked(str(folder)):
        return None
    file = open(folder / MARK, "a+")
    for _ in range(20):  # who only looks (`locked`) holds it for an instant
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
        except (
            OSError
        ):  # a file system without locks: nothing guards against running a job twice there
            break
    else:
        return None
    mark(folder, "running", pid=os.getpid(), host=socket.gethostname(), slurm=slurm)
    return file


def _redirect(path: Path) -> None:
    """Send errors to a file, and drop what is printed: the run's log.txt has it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    errors = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for target, source in ((0, nowhere), (1, nowhere), (2, errors)):
        os.dup2(source, target)


def start(job: Job, root: str, output: str, slurm: str = ""):
    """A process that runs the job."""
    process = FORK.Process(target=_run, args=(job, root, output, slurm), daemon=False)
    process.start()
    return process


def stop(process, job: Job, output: str) -> None:
    """End a job as Ctrl-C does; with force, if it does not end."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGINT)
    process.join(GRACE_S)
    finish(process)
    if process.exitcode == -signal.SIGKILL:
        with suppress(OSError):
            stopped(Path(output, job.folder))


def finish(process) -> None:
    """Wait for a job that has ended; kill the data loaders that a killed job leaves behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


# What is seen of a sweep


class View:
    """What is seen of a sweep: a line for each job that ended, with its accuracy.

    On a terminal also a bar, and a line for each job that runs.

    output: the folder that the jobs' folders are below, "" if accuracies are not shown.
    """

    LINES = 8

    def __init__(self, jobs: Sequence[Job], todo: Sequence[Job], output: str = ""):
        self._output = output
        self.terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=len(jobs),
            initial=len(jobs) - len(todo),
            unit="job",
            dynamic_ncols=True,
            disable=not self.terminal,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )
        self._lines: list[tqdm] = []
        self._todo = {job.folder: job for job in todo}  # what has not ended
        self._running: dict[str, float] = {}  # folder: when it started
        self._took: dict[tuple[bool, str], list[float]] = defaultdict(
            list
        )  # seconds of what succeeded
        self._failed = 0

    def started(self, folder: str) -> None:
        self._running.setdefault(folder, time.monotonic())
        self.tick()

    def ended(self, folder: str, error: str = "") -> None:
        """Tell that a job ended; `error` says why it failed, "" if it succeeded."""
        self.started(folder)  # if Slurm started and ended it between two looks
        job, seconds = self._todo.pop(folder), time.monotonic() - self._running.pop(folder)
        self._bar.n += 1  # a disabled bar does not count by itself
        if error:
            self._failed += 1
            self.say(f"failed: {folder}: {error}")
        else:
            self._took[job.test, job.trainer].append(seconds)
            accuracy = self._output and accuracy_of(Path(self._output, folder))
            facts = [accuracy, f"{seconds:.1f} s", self.left(1)]
            step = f"step {self._bar.n} of {self._bar.total}"
            self.say(f"{step}: {folder}: {', '.join(filter(None, facts))}")
        self.tick()

    def left(self, ended: int = 0) -> str:
        """A clause such as "1:23:45 left"; "" while no job of the kind has ended.

        Estimated from jobs of the same trainer, trainings or tests, else from all such jobs.
        ended: number of jobs that ended a moment ago.
        """
        took = dict(self._took)
        for test in (False, True):
            took[test, ""] = [
                seconds
                for (kind, _), all_took in self._took.items()
                if kind == test
                for seconds in all_took
            ]
        means, total = (
            {key: sum(seconds) / len(seconds) for key, seconds in took.items() if seconds},
            0.0,
        )
        for folder, job in self._todo.items():
            mean = means.get((job.test, job.trainer), means.get((job.test, "")))
            if mean is None:
                return ""  # a study's first trainings
            total += (
                max(0.0, mean - time.monotonic() + self._running[folder])
                if folder in self._running
                else mean
            )
        return (
            f"{datetime.timedelta(seconds=round(total / max(1, len(self._running) + ended)))} left"
        )

    def say(self, text: str) -> None:
        """Print a line that stays above the bar."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()

    def tick(self, output: str = "", note: str = "") -> None:
        """Draw anew. output: where the jobs' logs are, which tell how far they are."""
        if not self.terminal:
            return
        failed = f"{self._failed} failed" if self._failed else ""
        self._bar.set_postfix_str(
            ", ".join(filter(None, [note or f"{len(self._running)} running", failed, self.left()]))
        )
        if output:
            while len(self._lines) < min(len(self._running), self.LINES):
                self._lines.append(
                    tqdm(total=0, position=len(self._lines) + 1, bar_format="{desc}", leave=False)
                )
            texts = [f"  {folder}  {progress_of(Path(output, folder))}" for folder in self._running]
            for line, text in zip(self._lines, [*texts, *[""] * self.LINES], strict=False):
                line.set_description_str(text)

    def close(self) -> None:
        for line in (*self._lines, self._bar):
            line.close()


def accuracy_of(folder: Path) -> str:
    """The accuracy of a finished run, in words; "" if its record cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        metrics = record.read(folder / RESULTS)["metrics"]
        accuracy = (metrics.get("test") or metrics["val"])["accuracy"]
        return f"accuracy {accuracy:.1f}%"
    return ""


def progress_of(folder: Path) -> str:
    """How far a run is, from the last such line of its log."""
    if not files.is_file(folder / record.LOG):
        return ""
    with suppress(OSError), open(folder / record.LOG, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
        steps = re.findall(
            r"^(\w+ \[\d+/\d+\]).*?eta (\S+)", file.read().decode(errors="replace"), re.MULTILINE
        )
        return f"{steps[-1][0]}, {steps[-1][1]} left" if steps else ""
    return ""


# This machine


def serve(address: str, device: str, root: str, output: str) -> None:
    """A worker: runs jobs that come in through the socket, one at a time, each in a fork.

    It ends when the other side hangs up.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = device  # CUDA itself starts in the forks only
    with connection.Client(address, "AF_UNIX") as line:
        line.send((os.environ["SUBMITIT_LOCAL_JOB_ID"], os.getpid()))
        import train  # noqa: F401  once, for all jobs

        with suppress(EOFError, OSError):
            line.send(READY)
            while True:
                job = line.recv()
                process = start(job, root, output)
                if line in connection.wait(
                    [process.sentinel, line]
                ):  # hung up: Ctrl-C, or the sweep is gone
                    stop(process, job, output)
                    break
                finish(process)
                line.send(process.exitcode)
    os._exit(0)  # there is nothing to save, and taking torch down takes a second or two


@dataclass
class Worker:
    device: str
    job: Any  # submitit's
    process: int
    ready: bool = False


class Workers:
    """Workers for devices (values of CUDA_VISIBLE_DEVICES), by submitit's local executor."""

    def __init__(self, threads: int, root: str, output: str):
        import submitit

        self._place, self._threads = (root, output), str(threads)
        files.shorten_tempdir()
        _tidy()
        self._folder = tempfile.TemporaryDirectory(
            prefix=f"{TEMPORARY}-", ignore_cleanup_errors=True
        )
        self._lock = open(f"{self._folder.name}/new", "wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(self._lock.name, f"{self._folder.name}/lock")  # from its first moment it is held
        self._address = f"{self._folder.name}/socket"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self._address)
        self._server.listen()
        self._executor = submitit.LocalExecutor(f"{self._folder.name}/%j")
        self._executor.update_parameters(timeout_min=60 * 24 * 365, stderr_to_stdout=True)
        self._starting: dict[str, tuple[str, Any]] = {}  # submitit's id: device, submitit's job
        self._workers: dict[connection.Connection, Worker] = {}
        self.busy: dict[connection.Connection, Job] = {}

    def start(self, device: str) -> None:
        """Workers do not hear Ctrl-C: the sweep hears it and passes it on in good order."""
        before = {
            number: signal.signal(number, signal.SIG_IGN)
            for number in (signal.SIGINT, signal.SIGHUP)
        }
        try:
            # NVML: to ask whether there is a GPU, as importing clip does, must not start CUDA,
            # which would not work in forks then.
            with _environment(
                OMP_NUM_THREADS=self._threads,
                MKL_NUM_THREADS=self._threads,
                PYTHONPATH=_python_path(),
                PYTORCH_NVML_BASED_CUDA_CHECK="1",
            ):
                job = self._executor.submit(serve, self._address, device, *self._place)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._starting[job.job_id] = device, job

    @property
    def devices(self) -> list[str]:
        """Devices of all workers, including those that are still starting."""
        return [device for device, _ in self._starting.values()] + [
            worker.device for worker in self._workers.values()
        ]

    @property
    def idle(self) -> list[connection.Connection]:
        return [
            line for line, worker in self._workers.items() if worker.ready and line not in self.busy
        ]

    def run(self, line: connection.Connection, job: Job) -> None:
        self.busy[line] = job
        with suppress(OSError):  # a worker that is gone: `ended` tells
            line.send(job)

    def ended(self, timeout: float) -> Iterator[tuple[Job, int]]:
        """(job, exit code) of jobs that ended within `timeout` seconds; LOST for a lost worker.

        Raises InputError if a worker does not start.
        """
        for ready in connection.wait([self._server, *self._workers], timeout):
            if ready is self._server:
                line = connection.Connection(self._server.accept()[0].detach())
                with suppress(EOFError, OSError):  # gone already: seen below
                    name, process = line.recv()
                    self._workers[line] = Worker(*self._starting.pop(name), process)
                continue
            source = cast(connection.Connection, ready)
            worker = self._workers[source]
            try:
                code: Any = source.recv()
            except (EOFError, OSError):
                source.close()
                del self._workers[source]
                if not worker.ready:
                    raise _no_start(worker.job) from None
                code = LOST
            worker.ready = True
            if code != READY and source in self.busy:
                yield self.busy.pop(source), code
        for _, job in self._starting.values():
            if job.done():
                raise _no_start(job)

    def close(self) -> None:
        """Hang up: workers stop their jobs and end."""
        deadline = time.monotonic() + GRACE_S + 5
        jobs = [job for _, job in self._starting.values()] + [
            worker.job for worker in self._workers.values()
        ]
        for line, worker in self._workers.items():
            line.close()
            if line not in self.busy:
                _kill(worker.process)  # it has nothing to lose, and may be importing
        self._server.close()
        os.unlink(self._address)
        while not all(job.done() for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.02)
        for worker in self._workers.values():
            if not worker.job.done():
                _kill(worker.process)  # its job dies with it
        self._folder.cleanup()
        self._lock.close()


def _tidy() -> None:
    """Remove folders of sweeps that were killed with -9: nobody holds the lock in them.

    Folders of other users stay.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}-*"):
        with suppress(OSError), open(folder / "lock", "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _no_start(job) -> InputError:
    deadline = time.monotonic() + 5
    while not job.done() and time.monotonic() < deadline:  # what went wrong is written last
        time.sleep(0.02)
    lines = (
        job.paths.stdout.read_text(errors="replace").split("\n")
        if job.paths.stdout.exists()
        else []
    )
    lines = [line.strip() for line in lines if line.strip()]
    return InputError(
        f"a worker did not start ({lines[-1] if lines else 'it said nothing'}): see that `python "
        "train.py --help` works"
    )


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def run_local(
    jobs: Sequence[Job],
    root: str,
    output: str,
    devices: Sequence[str],
    threads: int,
    retries: int,
    view: View,
) -> None:
    """Run the jobs, a test after its training, one on each device at a time.

    A job that fails is marked in its folder.
    """
    with ExitStack() as stack:
        workers = Workers(threads, root, output)
        stack.callback(workers.close)
        queue = _Queue(jobs, output, retries, view)
        while queue.waiting or workers.busy:
            queue.hand_out(workers, devices)
            for job, code in workers.ended(1.0):
                queue.take_back(job, code)
            view.tick(output)


class _Queue:
    """Jobs that wait for a worker.

    submitit's local executor starts what it is given at once, so what comes next is chosen here:
    the first job of the list that can run.
    """

    def __init__(self, jobs: Sequence[Job], output: str, retries: int, view: View):
        self.waiting = list(jobs)
        self._output, self._retries, self._view = output, retries, view
        self._attempts: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}  # {folder of a job that another process runs: time}

    def hand_out(self, workers: Workers, devices: Sequence[str]) -> None:
        """Start workers for devices without one, and give jobs to the idle workers."""
        wanted = min(len(devices), len(self.waiting) + len(workers.busy)) - len(workers.devices)
        free = list((Counter(devices) - Counter(workers.devices)).elements())
        for device in free[: max(0, wanted)]:
            workers.start(device)
        unfinished = {job.folder for job in (*self.waiting, *workers.busy.values())}
        now = time.monotonic()
        ready = [
            job
            for job in self.waiting
            if unfinished.isdisjoint(job.needs) and self._not_before.get(job.folder, 0) < now
        ]
        for job, line in zip(ready, workers.idle, strict=False):
            self.waiting.remove(job)
            workers.run(line, job)
            self._view.started(job.folder)

    def take_back(self, job: Job, code: int) -> None:
        """A job ended with this exit code: it succeeded, waits for another attempt, or failed."""
        if code == BUSY:
            self._not_before[job.folder] = time.monotonic() + BUSY_S
            self.waiting.append(job)
            return
        self._attempts[job.folder] += 1
        attempts = self._attempts[job.folder]
        error = failure(job, self._output, code, attempts)
        if error and may_retry(code, attempts, self._retries):
            self._view.say(f"trying again: {job.folder}: {error}")
            self.waiting.insert(0, job)
            return
        self._view.ended(job.folder, error)
        if error:
            self._leave_out(job.folder)

    def _leave_out(self, folder: str) -> None:
        """Run nothing that comes after the job in this folder, which failed."""
        for job in [other for other in self.waiting if folder in other.needs]:
            self.waiting.remove(job)
            reason = "its training" if folder == job.trained else f"'{folder}', which it needs,"
            self._view.ended(job.folder, f"not run, since {reason} failed")
            self._leave_out(job.folder)


def failure(job: Job, output: str, code: int, attempts: int) -> str:
    """Why the job failed, marked in its folder; "" if it did not."""
    if code == 0:
        return ""
    if code == INTERRUPTED:
        return "stopped before its end"
    error = why(code, Path(output, job.folder))
    with suppress(OSError):  # a full disk, say: the sweep itself still shows the error
        mark(Path(output, job.folder), "failed", error=error, attempts=attempts)
    return error


def may_retry(code: int, attempts: int, retries: int) -> bool:
    return code not in (BAD_INPUT, INTERRUPTED) and attempts <= retries


# Slurm


class Task:
    """What a Slurm job does: run a job, again if it fails.

    After a time-out or preemption Slurm starts it once more, and the run goes on.
    """

    def __init__(self, job: Job, root: str, output: str, retries: int):
        self.job, self.root, self.output, self.retries = job, root, output, retries

    def __call__(self) -> None:
        """Raises RuntimeError with the last reason: then Slurm starts no job that depends on it."""
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        attempts = 0
        while True:
            process = start(self.job, self.root, self.output, os.environ.get("SLURM_JOB_ID", ""))
            try:
                process.join()
            except BaseException:  # submitit's handlers for time-out and preemption
                stop(process, self.job, self.output)
                raise
            finish(process)
            if process.exitcode == BUSY:
                time.sleep(BUSY_S)
                continue
            attempts += 1
            error = failure(self.job, self.output, process.exitcode, attempts)
            if not error:
                return
            if not may_retry(process.exitcode, attempts, self.retries):
                raise RuntimeError(error)

    def checkpoint(self):
        """How to go on after a time-out; submitit asks."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def slurm_executor(folder: Path, options: dict):
    """submitit's executor. Raises InputError without Slurm, or for an unknown option."""
    import submitit

    try:
        executor = submitit.SlurmExecutor(folder / "%j")
    except RuntimeError:
        raise InputError(
            "there is no Slurm here (no srun on the PATH): use --launch local, or log in to the "
            "cluster"
        ) from None
    more = {
        "kill-on-invalid-dep": "yes",
        **options.get("additional_parameters", {}),
    }  # tests of a training that failed must not wait for ever
    try:
        executor.update_parameters(
            **{"time": 1440, "job_name": "sweep", **options, "additional_parameters": more}
        )
    except (ValueError, TypeError) as error:
        reason = re.sub(
            r" - (\w+) \(default: [^)]*\)", r" \1", " ".join(str(error).split())
        )  # submitit lists all that it knows
        raise InputError(f"slurm options {options}: {reason}") from None
    return executor


def slurm_jobs() -> dict[str, str] | None:
    """{id: state} of this user's Slurm jobs that wait or run; None if Slurm does not answer."""
    try:
        done = subprocess.run(
            ["squeue", "-h", "-u", str(os.getuid()), "-o", "%i %T"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else None


def submit(
    executor, jobs: Sequence[Job], queued: dict[str, str], root: str, output: str, retries: int
) -> dict[str, str]:
    """Submit the jobs, a test to start after its training, which may be among `queued`.

    Returns {folder: Slurm's id}.

    Raises InputError if Slurm refuses a job; those before it are taken back.
    """
    ids: dict[str, str] = {}
    try:
        for job in jobs:
            before = [(queued | ids)[folder] for folder in job.needs if folder in queued | ids]
            executor.update_parameters(
                job_name="/".join(job.folder.split("/")[-4:]),
                dependency=":".join(["afterok", *before]) if before else None,
            )
            with _environment(PYTHONPATH=_python_path()):
                ids[job.folder] = executor.submit(Task(job, root, output, retries)).job_id
            if (
                read(Path(output, job.folder, MARK)).get("slurm") != ids[job.folder]
            ):  # it may have begun
                mark(Path(output, job.folder), "queued", slurm=ids[job.folder])
    except BaseException as error:
        cancel(ids, output)
        if isinstance(error, OSError):
            raise InputError(
                f"'{error.filename}' cannot be written ({error.strerror}): free space, or choose "
                "another --output"
            ) from None
        if isinstance(error, Exception):
            raise InputError(
                f"Slurm refuses a job ({str(error).strip().splitlines()[-1]}): correct the plan's "
                "slurm options"
            ) from None
        raise
    return ids


def watch(ids: dict[str, str], output: str, view: View) -> None:
    """Wait for the end of Slurm jobs {folder: id}; those that fail are marked in their folders.

    Ctrl-C cancels the jobs.
    """
    waiting, pause = dict(ids), 1.0
    missed: Counter[str] = Counter()
    try:
        while waiting:
            time.sleep(pause)
            pause = min(
                15.0, pause * 1.3
            )  # each look is a question to the whole cluster's controller
            alive = slurm_jobs()
            if alive is None:
                view.tick(note="Slurm does not answer")
                continue
            for folder, number in [
                (folder, number) for folder, number in waiting.items() if number not in alive
            ]:
                missed[folder] += 1
                marked, complete = (
                    read(Path(output, folder, MARK)),
                    read(Path(output, folder, RESULTS)).get("complete"),
                )
                if marked and marked.get("state") != "failed" or not marked and not complete:
                    if missed[folder] < 3:  # a file system over a network takes a while
                        continue
                    never = marked.get("state") == "queued"
                    marked = {
                        "error": "not run, since its training failed"
                        if never
                        else _slurm_end(number)
                    }
                    mark(Path(output, folder), "missing" if never else "failed", **marked)
                del waiting[folder]
                view.ended(folder, marked.get("error", ""))
            for folder, number in waiting.items():
                if alive.get(number) == "RUNNING":
                    view.started(folder)
            view.tick(output)
    except KeyboardInterrupt:
        cancel(waiting, output)
        raise


def cancel(ids: dict[str, str], output: str) -> None:
    """Cancel Slurm jobs {folder: id}."""
    if ids:
        subprocess.run(["scancel", *ids.values()], check=False)
    for folder in ids:
        if read(Path(output, folder, MARK)).get("state") == "queued":
            mark(Path(output, folder), "stopped")


def _slurm_end(number: str) -> str:
    """Slurm's word on a job that is over, in a sentence."""
    with suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(
            ["scontrol", "-o", "show", "job", number], capture_output=True, text=True, timeout=30
        ).stdout
        if state := re.search(r"JobState=(\S+)", answer):
            return f"Slurm job {number} ended: {state[1]}"
    return f"Slurm job {number} ended without a word"
