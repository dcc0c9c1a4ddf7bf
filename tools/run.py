"""The scripts of the protocols: `python -m tools.run PROTOCOL [train|test] ARGUMENTS`.

Arguments are DATASET TRAINER [CFG] SEED [KEY VALUE ...].

Turns arguments and environment into jobs, as a plan of tools.sweep does, and runs one train.py
after the other. The command line of each is printed to stderr, ready to copy. Stops after the first
that fails, with its exit code.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace

from dassl.names import did_you_mean
from tools import configs, inputs
from tools.configs import ROOT
from tools.inputs import InputError
from tools.launchers import Job
from tools.plans import TAKEN, Study, key_values
from tools.protocols import PROTOCOLS, Protocol
from tools.protocols.base import Variable

PARTS = ("train", "test")
INTEGER = re.compile(r"-?\d+")


@dataclass
class Request:
    """What a script was asked for: its arguments, and what it reads of the environment."""

    protocol: Protocol
    part: str
    dataset: str
    trainer: str
    config: str
    seed: int
    options: list[str]

    @property
    def command(self) -> str:
        """The script's command line for trainings, as a remedy."""
        owner = PROTOCOLS[self.protocol.trained_as or self.protocol.name]
        script = owner.command("train")
        return f"{script} {self.dataset} {self.trainer} {self.config} {self.seed}"

    @property
    def root(self) -> str:
        return folder_of("DATA", "data")

    @property
    def output(self) -> str:
        return folder_of("OUTPUT", "output")


def folder_of(variable: str, default: str) -> str:
    """The folder that a variable names, or one of the repository."""
    value = os.environ.get(variable, "")
    return absolute(value) if value else str(ROOT / default)


def absolute(folder: str) -> str:
    """A folder relative to where the caller of a script is (HERE); ~ is the home folder."""
    if folder == "~" or folder.startswith("~/"):
        return os.path.expanduser(folder)
    return os.path.join(os.environ.get("HERE") or os.getcwd(), folder)


# Arguments


def usage(protocol: Protocol, part: str) -> str:
    """The usage of a script, with the variables that it reads."""
    command = protocol.command(part or "train").removeprefix("scripts/")
    several = ", several in one go" if " " in protocol.shots else ""
    lines = [
        f"usage: {command} DATASET TRAINER CFG SEED [KEY VALUE ...]",
        "  DATASET   a file of configs/datasets, e.g. emoji         TRAINER  e.g. CoOp, CraftCoOp, "
        "ZeroshotCLIP",
        "  CFG       a file of configs/trainers/STRUCTURE (TRAINER without Craft), for Craft "
        "trainers also with _mmd or",
        "            another preset of configs/craft behind it; may be left out: then the one of "
        "configs/defaults.yaml for BACKBONE",
        "  SEED      e.g. 1",
        "environment: DATA (data sets, default data), SHOTS (a number or all, default "
        f"{protocol.shots}{several}),",
        "  OUTPUT (default output), LOADEP (epoch to test, default the last), BACKBONE (a file of "
        "configs/base)",
        *(f"  {variable.name} ({variable.help})" for variable in protocol.variables),
    ]
    return "\n".join(lines)


def request(protocol: Protocol, part: str, words: list[str]) -> Request | None:
    """From the arguments; None if there are too few. Raises InputError for bad ones."""
    without_config = len(words) > 2 and INTEGER.fullmatch(words[2])
    if len(words) < 4 and not without_config:
        return None
    dataset, trainer, *more = words
    configs.dataset_file(dataset)
    config = "" if without_config else more.pop(0)
    seed, *options = more
    if not INTEGER.fullmatch(seed):
        raise InputError(f"SEED is '{seed}': write a whole number")
    if not config:
        config = configs.default(dataset, trainer, os.environ.get("BACKBONE", ""), protocol.name)
        sys.stderr.write(f"config of {trainer} for {dataset}: {config}\n")
    elif os.environ.get("BACKBONE"):
        sys.stderr.write(
            f"note: BACKBONE is {os.environ['BACKBONE']}, which has no effect: the config {config} "
            "has the CLIP\n"
        )
    if not protocol.variants:  # an ablation's message says more of trainers
        configs.files(trainer, config)
    for key, _ in key_values(options):
        if key in TAKEN:
            raise InputError(
                f"{key} cannot be given as an option: it follows from the script, its arguments "
                "and environment"
            )
    return Request(protocol, part, dataset, trainer, config, int(seed), options)


def shots_of(protocol: Protocol) -> list[int | str]:
    """From SHOTS. Raises InputError for what is neither a number from 1 nor all."""
    given = os.environ.get("SHOTS") or protocol.shots
    words = (given.split() or [given]) if " " in protocol.shots else [given]
    for word in words:
        if word not in ("all", "-1") and not re.fullmatch(r"[1-9]\d*", word):
            raise InputError(f"SHOTS is '{word}': write a number from 1, or all")
    return ["all" if word in ("all", "-1") else int(word) for word in words]


def datasets_of(protocol: Protocol, key: str) -> list[str]:
    """Data sets that the variables for `key` name. Raises InputError for an unknown one."""
    return [
        name
        for variable in protocol.variables
        if variable.key == key
        for name in _datasets_in(variable)
    ]


def _datasets_in(variable: Variable) -> list[str]:
    """Data sets that a variable names, none if it is not set. Raises InputError for others."""
    value = os.environ.get(variable.name, "")
    names = value.split()
    if value and not names:
        raise InputError(f"{variable.name} is blank: name a data set, or do not set it")
    if len(names) > 1 and not variable.several:
        raise InputError(f"{variable.name} is '{value}': name one data set")
    for name in names:
        try:
            configs.dataset_file(name)
        except InputError as error:
            raise InputError(f"{variable.name}: {error}") from None
    return names


# Jobs


def studies(asked: Request) -> list[Study]:
    """The studies that a script runs: one, or one for each variant of an ablation."""
    protocol = asked.protocol
    options = dict(zip(asked.options[::2], asked.options[1::2], strict=True))
    tests = datasets_of(protocol, "tests") or list(protocol.tests)
    if protocol.others:  # those of DATASET are among them anyway
        tests = [name for name in tests if name != asked.dataset]
    study = Study(
        protocol,
        datasets=[asked.dataset],
        trainers=[(asked.trainer, asked.config)],
        shots=shots_of(protocol),
        seeds=[asked.seed],
        tests=tests,
        targets=datasets_of(protocol, "target"),
        overrides=options,
    )
    return _variants(asked, study) if protocol.variants else [study]


def _variants(asked: Request, study: Study) -> list[Study]:
    """A study for each variant. Those with a preset need unlabelled images, of a target."""
    if asked.trainer not in (known := configs.structures()):
        raise InputError(
            f"an ablation starts from a structure without CRAFT, which '{asked.trainer}' is not: "
            f"{did_you_mean(configs.structure_of(asked.trainer), known)}there are "
            + ", ".join(known)
        )
    configs.files(asked.trainer, asked.config)
    studies = []
    for name, variant in asked.protocol.variants.items():
        trainer = configs.with_craft(asked.trainer) if variant.preset else asked.trainer
        unlabelled = {}
        if variant.preset not in ("", configs.DEFAULT):
            if not study.targets:
                continue
            unlabelled = {"DATASET.TARGET": configs.registered(study.targets[0])}
        config = configs.crafted(asked.trainer, asked.config, variant.preset)
        studies.append(
            replace(
                study,
                name=name,
                trainers=[(trainer, config)],
                targets=[],
                overrides={**study.overrides, **variant.options},
                train_overrides=unlabelled,
            )
        )
    return studies


def jobs_of(asked: Request) -> list[Job]:
    """The jobs of the part that was asked for; without a part, all."""
    jobs = [job for study in studies(asked) for job in study.jobs()]
    if not asked.part:
        return jobs if asked.protocol.variants else [job for job in jobs if job.run.part == "train"]
    jobs = [job for job in jobs if job.run.part == asked.part]
    others = {job.run.tested for job in jobs} - {asked.dataset}
    # Tests on another data set are asked for by name, and then alone.
    if asked.part == "test" and others and asked.protocol.others:
        jobs = [job for job in jobs if job.run.tested in others]
    return jobs


def run(asked: Request) -> int:
    """The exit code of the first train.py that fails, or 0."""
    epoch = os.environ.get("LOADEP") or None
    jobs = jobs_of(asked)
    if not jobs:
        raise InputError(
            f"{asked.protocol.name} has no tests but those of its trainings: give {asked.command}"
        )
    if epoch and not any(job.trained for job in jobs):
        sys.stderr.write(f"note: LOADEP is {epoch}, which has no effect: no model is loaded\n")
    for job in jobs:
        try:
            arguments = job.arguments(asked.root, asked.output, epoch)
        except InputError as error:
            text = str(error).replace("train it first", f"train it first with {asked.command}")
            raise InputError(text) from None
        command = [os.path.relpath(sys.executable, ROOT), "train.py", *arguments]
        sys.stderr.write(f"{_from_here()}{shlex.join(command)}\n")
        sys.stderr.flush()
        if code := wait(subprocess.Popen([sys.executable, *command[1:]], cwd=ROOT)):
            return code
    return 0


def _from_here() -> str:
    """What goes before a printed command where the caller is not in the repository's folder."""
    here = os.path.realpath(os.environ.get("HERE") or os.getcwd())
    return "" if here == os.path.realpath(ROOT) else f"cd {shlex.quote(str(ROOT))} && "


def wait(process: subprocess.Popen) -> int:
    """The exit code of train.py, which hears Ctrl-C, too, and takes a while to end."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def main(arguments: list[str] | None = None) -> int:
    """0, the exit code of the train.py that failed, or 2 after one sentence on bad input."""
    words = sys.argv[1:] if arguments is None else arguments

    def work(_: argparse.Namespace) -> int:
        name, *rest = words or [""]
        configs.check(name, PROTOCOLS, "protocol")
        part = rest.pop(0) if rest and rest[0] in PARTS else ""
        protocol = PROTOCOLS[name]
        missing = [
            variable
            for variable in protocol.variables
            if variable.needed and not os.environ.get(variable.name)
        ]
        asked = None if missing else request(protocol, part, rest)
        if asked is None:
            sys.stderr.write(f"{usage(protocol, part)}\n")
            return 2
        return run(asked)

    return inputs.main(work, argparse.Namespace())


if __name__ == "__main__":
    sys.exit(main())
