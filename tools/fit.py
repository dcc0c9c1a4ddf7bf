"""CLIP for your own photos in one command: `bash scripts/fit.sh PHOTOS [--test FOLDER] [options]`.

PHOTOS is a folder with one folder of photos per class, or a table (.csv) as docs/datasets.md
describes it. The command splits them so that copies stay on one side, learns prompts for all
classes, tests them beside zero-shot CLIP, and writes a page with the mistakes. Nothing is written
into the folder of photos. The same command again goes on where the last one stopped.
docs/own_photos.md explains the rules.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from yacs.config import CfgNode

import train
from dassl import files, record
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import UserError
from dassl.messages import LOGGERS
from dassl.printable import escaped
from dassl.utils import write_json
from dassl.utils.logger import close_logger
from tools import configs, fit_page, inputs, outcomes, own_photos
from tools.arguments import PAIRS, Parser
from tools.configs import ROOT
from tools.inputs import InputError
from tools.launchers import cores
from tools.plans import key_values
from tools.run import absolute, folder_of
from tools.trained import LEARNED
from trainers.backbone import is_openais_file, load_backbone, place_of
from trainers.base import PromptTrainer
from trainers.clips import REACH_S

# CoOp learns nothing about images: their features are computed once, which is what makes a CPU
# enough, and what was learned serves other classes, too. CRAFT costs it no accuracy that the
# bundled study saw.
TRAINER = "CraftCoOp"
BASELINE = "ZeroshotCLIP"
BEST, BUNDLED = "ViT-B/16", "bundled"
ACTIVATION = "MODEL.BACKBONE.ACTIVATION"
STEPS = 240  # optimisation steps: the study's 40 epochs on 8 photos of 23 classes
LEAST, MOST = 5, 100  # epochs
ABOUT, TABLE, NUMBERS, PAGE = inputs.OF_A_FIT
RUNS = ("zero_shot", LEARNED)
SILENCE_S = 30.0  # without a terminal, how often a line tells how far it is
_EPOCH = re.compile(r"epoch \[(\d+)/(\d+)\]( batch)?.* eta ([\d:]+)")
_SAID = re.compile(r"(?i)(warning|note): ")
# Said of the table that is written here, or of choices that are made here.
_KNOWN = ("has no column split", "writes ", "No CUDA device found")
# Keys of --set that would make the page tell of other photos, words or runs than there were.
DECIDED = {
    "TRAINER.NAME": "give --trainer",
    "MODEL.BACKBONE.NAME": "give --clip",
    "SEED": "give --seed",
    "OPTIM.MAX_EPOCH": "give --epochs",
    "DATASET.NUM_SHOTS": "give --shots",
    "DATASET.TEMPLATE": "give --template",
    "OUTPUT_DIR": "give --output",
    "INPUT.SIZE": "it follows from --clip",
    "RESUME": "the same command goes on by itself",
    "EVAL_ONLY": "a fit learns; tools.predict and train.py --eval-only do not",
    "TEST.SPLIT": "the page is of the photos to test on",
    "TEST.NO_TEST": "the page is made from the test",
    "TEST.SAVE_OUTCOMES": "the page is made from them",
}
# The same of all keys of a group.
DECIDED_GROUPS = {
    "DATASET.": "a fit reads PHOTOS alone, all classes",
    "SELECTION.": "tools.select writes it of settings that it chose, which these are not",
}


# The CLIP


@dataclass(frozen=True)
class Clip:
    """name: MODEL.BACKBONE.NAME. base: its file of configs/base. size: pixels it reads."""

    name: str
    base: str
    size: int


def choose_clip(given: str, activation: str = "auto") -> Clip:
    """The CLIP of --clip; without it OpenAI's ViT-B/16, which is fetched if it is not there.

    activation: as --set has it. Raises InputError if the CLIP can neither be found nor fetched, and
    for a file that is none.
    """
    base, bases = configs.bundled_backbone(), configs.backbones()
    bundled = bases.pop(base)
    known = {name: stem for stem, name in bases.items()}
    name = given or BEST
    if name not in (*known, BUNDLED) and os.path.exists(absolute(name)):
        name = os.path.realpath(absolute(name))
    if name in (BUNDLED, os.path.realpath(ROOT / bundled)):
        sys.stdout.write(
            "note: the bundled CLIP knows drawings (icons, emoji) and no photos: with photos, "
            "take what follows as a rehearsal\n"
        )
        return Clip(bundled, base, load_backbone(bundled).input_resolution)
    if name in known:
        _fetchable(name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(REACH_S)  # a download that stalls ends, too
    try:
        size = load_backbone(name, activation=activation).input_resolution
        return Clip(name, known.get(name, known[BEST]), size)
    except UserError as error:  # which names train.py's keys and flag
        words = str(error).replace(": correct it, or --backbone", ": correct it")
        words = words.replace(f"set {ACTIVATION} to", f"give --set {ACTIVATION}")
        words = words.replace(" or to quick_gelu", " or quick_gelu")
        raise InputError(words.replace("MODEL.BACKBONE.NAME", "--clip")) from None
    finally:
        socket.setdefaulttimeout(before)


def _fetchable(name: str) -> None:
    """Raise InputError, with how to get it, if a CLIP of OpenAI is neither there nor to be had."""
    path, url = place_of(name)
    state = "is not on this machine"
    if files.is_file(path):
        if is_openais_file(path):
            return
        state = f"is cut off or damaged ('{path}', {os.path.getsize(path):,} bytes)"
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=REACH_S).close()
    except (OSError, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"CLIP {name} {state} and cannot be fetched ({reason}): download {url} elsewhere and "
            f"put it into '{os.path.dirname(path)}', or add --clip {BUNDLED}, a small CLIP that "
            "knows drawings and no photos"
        ) from None


# The settings


def epochs_for(photos: int, batch: int) -> int:
    """Epochs that come to about STEPS steps, within LEAST and MOST."""
    return min(MOST, max(LEAST, round(STEPS / -(-photos // batch))))


@dataclass(frozen=True)
class Plan:
    """Everything a fit is: trainer, config files and KEY VALUE options of both runs."""

    trainer: str
    files: tuple[str, ...]
    settings: dict[str, object]
    seed: int

    def arguments(self, output: Path, root: Path, test_only: bool) -> list[str]:
        """train.py's arguments."""
        words = ["--root", str(root), "--output-dir", str(output), "--trainer", self.trainer]
        words += ["--seed", str(self.seed), "--dataset-config-file", configs.dataset_file("csv")]
        for file in self.files:
            words += ["--config-file", file]
        options = [str(word) for pair in self.settings.items() for word in pair]
        return words + ["--skip-done"] + ["--eval-only"] * test_only + options


def plan_for(
    args: argparse.Namespace, trainer: str, clip: Clip, counts: Counter, seed: int
) -> tuple[Plan, list[str]]:
    """The plan of a trainer, and notes on what this machine changes.

    counts: photos of each part. Raises InputError for an unknown trainer.
    """
    configs.check(trainer, configs.trainers(), "trainer")
    kind = TRAINER_REGISTRY.get(trainer)
    if not issubclass(kind, PromptTrainer):
        raise InputError(f"--trainer {trainer} learns no prompts: choose another")
    config = configs.default("imagefolder", trainer, clip.base)
    names = configs.files(trainer, config)
    known = record.flat(configs.merged(names))
    given, notes, gpu = _given(args), [], torch.cuda.is_available()
    settings: dict[str, object] = {
        "DATASET.CSV": TABLE,
        "DATASET.NUM_SHOTS": -1,
        "DATASET.TEMPLATE": _template(args, clip),
        "INPUT.SIZE": (clip.size, clip.size),
        "INPUT.UPRIGHT": True,  # phones store photos on their side
        "INPUT.TRANSPARENCY": "white",
        "MODEL.BACKBONE.NAME": clip.name,
        "DATALOADER.NUM_WORKERS": min(int(str(known["DATALOADER.NUM_WORKERS"])), cores() - 1),
        "TRAINER.CACHED_TESTS": True,
    }
    if not gpu:
        settings["DATALOADER.NUM_WORKERS"] = 0
        settings["INPUT.TRANSFORMS"] = ("normalize",)
        precision, changed = f"TRAINER.{kind.options}.PREC", []
        if kind.options and precision not in given and known.get(precision, "fp16") == "fp16":
            settings[precision] = "fp32"
            changed.append("computing in fp32 instead of the published fp16")
        crops = tuple(known.get("INPUT.TRANSFORMS") or ()) != settings["INPUT.TRANSFORMS"]
        if crops and "INPUT.TRANSFORMS" not in given:
            changed.append(
                "without random crops, so that photos are encoded once where no image prompts are "
                "learned"
            )
        if changed:
            notes.append(f"there is no GPU: {', and '.join(changed)}")
    if configs.learns(trainer):
        epochs = _epochs(args, kind, Plan(trainer, tuple(names), settings, seed), counts["train"])
        settings["OPTIM.MAX_EPOCH"] = epochs
        settings["TRAIN.CHECKPOINT_FREQ"] = -(-epochs // 5)
        settings["TEST.FINAL_MODEL"] = "best_val" if counts["val"] else "last_step"
    settings |= given
    if settings.get("TEST.FINAL_MODEL") == "best_val" and not counts["val"]:
        raise InputError(
            "--set TEST.FINAL_MODEL best_val cannot be used here: no photos are set apart to "
            f"choose the epoch by, as a fit does with {own_photos.ENOUGH_TO_CHOOSE} photos or "
            "more: leave it out, or put photos into a folder val beside train"
        )
    return Plan(trainer, tuple(names), settings, seed), notes


def _given(args: argparse.Namespace) -> dict[str, object]:
    """--set."""
    return dict(key_values(args.set))


def _epochs(args: argparse.Namespace, kind: type[PromptTrainer], plan: Plan, photos: int) -> int:
    """--epochs, or as many as fit the number of photos; 1 where epochs change nothing.

    Raises InputError for --epochs there, and UserError for keys that train.py refuses.
    """
    cfg = checked(replace(plan, settings=plan.settings | _given(args)))
    if kind.learns_in_epochs(cfg):
        return args.epochs or epochs_for(photos, cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
    if (args.epochs or 1) > 1:
        raise InputError(
            f"--epochs is {args.epochs}, but {plan.trainer} learns without epochs: leave it out"
        )
    return 1


def _template(args: argparse.Namespace, clip: Clip) -> str:
    """--template, or a sentence of the words that the context starts from."""
    start = "a picture of a" if clip.base == configs.bundled_backbone() else "a photo of a"
    return args.template or f"{start} {{}}."


# The output folder


def home_of(args: argparse.Namespace, photos: own_photos.Photos, known: dict) -> Path:
    """The output folder of this fit: of these photos, their content and these settings alone.

    known: all that decides about the result. Raises InputError for a folder that is in the folder
    of photos, or holds another fit.
    """
    key = _key(known)
    if args.output:
        home = Path(args.output)
    else:
        base = photos.place.name if photos.place.is_dir() else photos.place.stem
        name = re.sub(r"[^\w.-]+", "_", base)[:40].strip("._") or "photos"
        home = Path(folder_of("OUTPUT", "output"), "fit", f"{name}-{key[:10]}")
    inside = photos.place if photos.place.is_dir() else photos.place.parent
    if inside.resolve() in (home.resolve(), *home.resolve().parents) and photos.place.is_dir():
        raise InputError(
            f"'{home}' is in the folder of photos, into which nothing is written: give --output a "
            "folder elsewhere"
        )
    about = _about(home)
    if about and about["key"] != key:
        changed = [what for what in known if about["known"].get(what) != known[what]]
        raise InputError(
            f"'{home}' holds another fit ({', '.join(changed)} differ): give --output another "
            "folder"
        )
    return home


def _key(known: dict) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _about(home: Path) -> dict:
    """What an earlier fit wrote about itself; {} without one.

    Raises InputError for a folder with other files.
    """
    place = home / ABOUT
    try:
        about = json.loads(place.read_text(encoding="utf-8"))
        return about if isinstance(about["known"], dict) and about["key"] else {}
    except (FileNotFoundError, NotADirectoryError):
        if home.is_dir() and any(home.iterdir()):
            raise InputError(
                f"'{home}' is not empty and holds no fit: give --output a new folder"
            ) from None
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"'{place}' is damaged: move the folder away, or give --output another"
        ) from None


@contextlib.contextmanager
def made(home: Path, known: dict) -> Iterator[None]:
    """Make the folder with the file that tells what it is of.

    Inside, what is refused before anything was learned leaves nothing behind, unless an earlier
    call began this fit. Raises InputError.
    """
    if (home / ABOUT).is_file():
        yield
        return
    new = [path for path in (home, *home.parents) if not path.exists()]
    try:
        inputs.make_folder(home, "give --output a folder where you may write")
        about = {"key": _key(known), "known": known}
        inputs.write(home / ABOUT, json.dumps(about) + "\n", "--output")
        yield
    except (InputError, UserError):
        if files.holds_checkpoints(home / LEARNED):
            raise  # the same command goes on from there, once the cause is mended
        for path in home.glob("*"):  # `_about` refuses a folder that held anything else
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in new:
            with contextlib.suppress(OSError):  # in use by others
                path.rmdir()
        raise


def _began(home: Path) -> bool:
    """Whether a fit left numbers, the record of a run or a checkpoint."""
    traces = [home / NUMBERS, *(home / run / record.NAME for run in RUNS)]
    return any(path.is_file() for path in traces) or files.holds_checkpoints(home / LEARNED)


def earlier(home: Path, place: Path) -> list[Path]:
    """Other fits of the same folder of photos, beside this one."""
    found = []
    for path in sorted(home.parent.glob(f"*/{ABOUT}")):
        with contextlib.suppress(InputError):
            about = _about(path.parent)
            other = path.parent != home and _began(path.parent)
            if other and about and about["known"].get("photos") == str(place):
                found.append(path.parent)
    return found


# Running


class Screen:
    """A stream for train.py's output: a bar for epochs, warnings as lines; the log has all else.

    told: sentences that the user has read already, which this screen adds to.
    """

    encoding = "utf-8"

    def __init__(self, title: str, told: set[str] | None = None):
        self.title, self.rest, self.last = title, "", time.monotonic()
        self.told = set() if told is None else told
        self.bar: tqdm | None = None
        self.stream = sys.stdout

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if match := _EPOCH.search(line):
                epoch, epochs, within, eta = match.groups()
                self._step(int(epoch) - bool(within), int(epochs), eta)
            elif _SAID.match(line):
                self.say(line)
        return len(text)

    def say(self, text: str) -> None:
        """A warning of the run, once."""
        if text not in self.told and not any(word in text for word in _KNOWN):
            self.told.add(text)
            words = text if _SAID.match(text) else f"note: {text}"
            tqdm.write(escaped(words), file=self.stream)

    def _step(self, done: int, epochs: int, eta: str) -> None:
        """done: epochs that are over."""
        if self.bar is None:
            self.bar = tqdm(total=epochs, desc=self.title, unit="epoch", leave=False, disable=None)
        self.bar.update(done - self.bar.n)
        self.bar.n = done  # a bar that is not shown does not count
        if self.bar.disable and time.monotonic() - self.last > SILENCE_S:
            self.last = time.monotonic()
            self.stream.write(f"{self.title}: {done} of {epochs} epochs, eta {eta}\n")

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


@contextlib.contextmanager
def in_repository() -> Iterator[None]:
    """Inside, the repository is the working folder: configs name files from there."""
    before = os.getcwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)


def checked(plan: Plan) -> CfgNode:
    """The configuration. Raises UserError for keys and values that train.py refuses."""
    with in_repository():
        return train.setup_cfg(train.parse_args(plan.arguments(Path("unused"), ROOT, False)))


def run_one(
    plan: Plan,
    output: Path,
    root: Path,
    test_only: bool,
    title: str,
    told: set[str] | None = None,
) -> bool:
    """Train and test, or test, unless that was done. Returns whether anything was to do.

    told: see `Screen`. Raises UserError as train.py does.
    """
    words = train.parse_args(plan.arguments(output, root, test_only))
    before = record.peek(output / record.NAME)
    screen = Screen(title, told)
    try:
        with in_repository(), contextlib.redirect_stdout(screen), heard(screen.say, *LOGGERS):
            try:
                train.run(words)
            finally:
                close_logger()  # which puts back the stream that it found
    finally:
        screen.close()
    return record.peek(output / record.NAME) != before


@contextlib.contextmanager
def threads_for(clip: Clip) -> Iterator[None]:
    """One thread for the bundled CLIP: on a model so small more only wait for each other."""
    before = torch.get_num_threads()
    try:
        if clip.base == configs.bundled_backbone():
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


class _Told(logging.Handler):
    """Hands what is logged to a function."""

    def __init__(self, say: Callable[[str], object]):
        super().__init__(logging.WARNING)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())


@contextlib.contextmanager
def heard(say: Callable[[str], object], *names: str) -> Iterator[None]:
    """Inside, `say` gets what the loggers of these names warn of, whatever words it begins with."""
    handler, loggers = _Told(say), [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def run(args: argparse.Namespace) -> int:
    start = time.monotonic()
    _check(args)
    place = Path(args.photos)
    warnings: list[str] = []
    with heard(warnings.append, "datasets"):
        photos = own_photos.read(place, args.nested)
        test = own_photos.read(Path(args.test), args.nested, 1) if args.test else None
    activation = str(_given(args).get(ACTIVATION, "auto"))
    clip = choose_clip(args.clip, activation)  # before photos are read, which can take minutes
    dealt = own_photos.split(photos, test, args.exact_copies, args.skip_unreadable)
    if args.shots:
        dealt = own_photos.drawn(dealt, args.shots, photos.notes)
    counts = Counter(part for _, part in dealt)
    _say_photos(photos, counts)
    table = own_photos.table(dealt)
    learned, notes = plan_for(args, args.trainer, clip, counts, args.seed)
    frozen, _ = plan_for(args, BASELINE, clip, counts, args.seed)
    frozen = replace(frozen, settings=_shared(frozen.settings, args))
    for note in notes:
        sys.stdout.write(f"note: {note}\n")
    photos.notes[:] = [*warnings, *photos.notes, *notes]  # for the page: all are printed by now
    checked(learned)  # before anything is written
    known = {
        "photos": str(photos.place),
        "split": _digest(dealt),
        "trainer": args.trainer,
        "settings": {key: str(value) for key, value in learned.settings.items()},
        "seed": args.seed,
    }
    home = home_of(args, photos, known)
    for other in earlier(home, photos.place):
        sys.stdout.write(
            f"note: '{other}' holds an earlier fit of this folder, with other photos or settings\n"
        )
    sys.stdout.write(f"output: {home}\n")
    told = set(photos.notes)  # printed by now
    with made(home, known), threads_for(clip):
        _write_table(home, table)
        done = not run_one(frozen, home / RUNS[0], home, True, "zero-shot", told)
        done &= not run_one(learned, home / RUNS[1], home, False, "learning", told)
    pair = [answers(home / name) for name in RUNS]
    if done:
        sys.stdout.write("everything was there already: nothing was computed again\n")
    report(home, pair, photos, dealt, clip, learned, time.monotonic() - start)
    return 0


def answers(folder: Path) -> outcomes.Answers:
    """What the test in a run's folder said. Raises InputError where its files are damaged."""
    try:
        return outcomes.read(folder, "test")
    except (InputError, UserError) as error:
        reason = str(error).rpartition(": ")[0]
        raise InputError(
            f"{reason}: delete the folder '{folder}' and run the same command again"
        ) from None


def _digest(dealt: Sequence[tuple[own_photos.Photo, str]]) -> str:
    """Of the photos' paths, contents, classes and parts."""
    rows = sorted((photo.path, photo.digest, photo.name, part) for photo, part in dealt)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _shared(settings: dict, args: argparse.Namespace) -> dict:
    """Of --set, zero-shot CLIP takes what is not the trainer's or the optimiser's business."""
    own = ("TRAINER.", "OPTIM.")
    given = set(args.set[::2]) - {"TRAINER.CACHED_TESTS"}
    return {k: v for k, v in settings.items() if not (k in given and k.startswith(own))}


def _write_table(home: Path, table: str) -> None:
    """Leave an equal file alone: who has it open in a spreadsheet keeps it."""
    place = home / TABLE
    if not place.is_file() or place.read_text(encoding="utf-8") != table:
        inputs.write(place, table, "--output")


def _check(args: argparse.Namespace) -> None:
    """Raise InputError for options that cannot be meant."""
    for name, least in (("epochs", 1), ("shots", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"--{name} is {value}: set it to {least} or more")
    given = _given(args)
    configs.check(args.trainer, configs.trainers(), "trainer")
    if not configs.learns(args.trainer):
        raise InputError(
            f"--trainer {args.trainer} learns nothing: choose one of "
            f"{', '.join(name for name in configs.trainers() if configs.learns(name))}"
        )
    for key in given:
        of_group = (why for group, why in DECIDED_GROUPS.items() if key.startswith(group))
        if reason := DECIDED.get(key) or next(of_group, ""):
            raise InputError(f"--set {key} cannot be used here: {reason}")
    if getattr(TRAINER_REGISTRY.get(args.trainer), "needs_groups", False):
        raise InputError(
            f"--trainer {args.trainer} learns from groups of photos within a class, which a fit "
            f"does not know: choose another, such as {TRAINER}"
        )


def _say_photos(photos: own_photos.Photos, counts: Counter) -> None:
    """What was found; one line, and a line for each note."""
    words = {"train": "to learn from", "val": "to choose the epoch by", "test": "to test on"}
    parts = ", ".join(f"{counts[part]} {text}" for part, text in words.items() if counts[part])
    sys.stdout.write(f"{escaped(str(photos.place))}: {len(photos.names)} classes, photos {parts}\n")
    for note in photos.notes:
        sys.stdout.write(f"note: {note}\n")


def report(
    home: Path,
    pair: Sequence[outcomes.Answers],
    photos: own_photos.Photos,
    dealt: Sequence,
    clip: Clip,
    plan: Plan,
    took: float,
) -> None:
    """Print the numbers and the next command; write the page and the numbers.

    pair: of zero-shot CLIP and of the learned model.
    """
    found = fit_page.compare(
        pair[0], pair[1], Counter(p.name for p, part in dealt if part == "train")
    )
    page = home / PAGE
    command = _predict(home)
    about = {
        "photos": str(photos.place),
        "clip": clip.name,
        "trainer": plan.trainer,
        "epochs": plan.settings["OPTIM.MAX_EPOCH"],
        "notes": photos.notes,
        "command": command,
        "bundled": clip.base == configs.bundled_backbone(),
    }
    inputs.write(page, fit_page.page(found, pair[1], home, about), "--output")
    write_json(found.numbers(), str(home / NUMBERS))
    sys.stdout.write(f"\n{fit_page.text(found)}\n\n")
    sys.stdout.write(f"page: {page}\n")
    sys.stdout.write(f"time: {took:.0f} s\n\nnew photos:\n  {command}\n")


def _predict(home: Path) -> str:
    """The command line for new photos, as it works where the user is."""
    here = os.path.realpath(os.environ.get("HERE") or os.getcwd())
    near = here == os.path.realpath(ROOT)
    place = os.path.relpath(home / LEARNED, ROOT)
    if not near or place.startswith(os.pardir):
        place = str(home / LEARNED)
    script = Path("" if near else ROOT, "scripts", "predict.sh")
    words = ["bash", str(script), "--model-dir", place, "NEW_PHOTOS"]
    return shlex.join([*words, "--sort-into", "SORTED", "--at-least", "0.5"])


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="fit.sh",
    )
    parser.add_argument(
        "photos", type=absolute, metavar="PHOTOS", help="folder of class folders, or a table"
    )
    parser.add_argument(
        "--test",
        type=absolute,
        metavar="FOLDER",
        help="photos to test on, of the same classes; else 30%% of them",
    )
    parser.add_argument(
        "--clip",
        default="",
        metavar="CLIP",
        help=f"an OpenAI name, a file, or {BUNDLED}; default {BEST}, fetched if need be",
    )
    parser.add_argument("--trainer", default=TRAINER, help=f"default {TRAINER}")
    parser.add_argument("--output", type=absolute, metavar="FOLDER", help="default output/fit/NAME")
    parser.add_argument("--shots", type=int, metavar="N", help="learn from N photos of a class")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"default about {STEPS} steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--template", default="", help='e.g. "a photo of a {}, a type of bird."')
    parser.add_argument("--nested", action="store_true", help="class folders hold folders")
    parser.add_argument(
        "--exact-copies", action="store_true", help="only files of the same bytes are copies"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out files that cannot be read"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar=PAIRS, help="keys of docs/options.md"
    )
    return inputs.main(
        run,
        parser.parse_args(arguments),
        interrupted="interrupted: run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
