"""Config files by name: trainer and config of a script or plan -> the files to merge.

Nothing here imports torch.

A config of a structure is a file of configs/trainers/<structure>. The same name, given for the
structure with CRAFT, is that file and configs/craft/default.yaml; with "_<preset>" behind it, e.g.
"drawings_mmd", that file and configs/craft/<preset>.yaml. A Craft trainer may have files of its
own, too.
"""

import ast
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import yaml

from dassl import record, strict_yaml
from dassl.names import did_you_mean
from tools.inputs import InputError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
DEFAULT = "default"  # the preset that leaves a config its name

# What names tell of trainers, where a record does not: of plans, scripts and records of older
# versions. tests/test_configs.py compares it with the classes.
_CRAFT, _FROZEN = "Craft", ("ZeroshotCLIP", "OrthCal")
_ALONE = ("TipAdapter", "DFR")  # learn nothing that CRAFT's terms depend on


def with_craft(trainer: str) -> str:
    """The trainer of a structure with CRAFT."""
    return f"{_CRAFT}{trainer}"


def has_craft(trainer: str) -> bool:
    """Whether a trainer adds CRAFT's terms."""
    return trainer.startswith(_CRAFT)


def structure_of(trainer: str) -> str:
    """The trainer without CRAFT."""
    return trainer.removeprefix(_CRAFT)


def takes_craft(structure: str) -> bool:
    """Whether there is a trainer of the structure with CRAFT."""
    return learns(structure) and not has_craft(structure) and structure not in _ALONE


def learns(trainer: str) -> bool:
    """Whether a trainer learns anything; what does not is only tested."""
    return not structure_of(trainer).startswith(_FROZEN)


# Presets


@functools.cache
def presets() -> tuple[str, ...]:
    """Names of the files in configs/craft."""
    return tuple(sorted(path.stem for path in (CONFIGS / "craft").glob("*.yaml")))


def joined(config: str, preset: str) -> str:
    """The name of a config with a preset of CRAFT's options."""
    return config if preset in ("", DEFAULT) else f"{config}_{preset}"


def split(trainer: str, config: str) -> tuple[str, str]:
    """(config of the structure, preset) of a name; the preset is "" without CRAFT.

    A config whose own name ends as a preset's does is that config.
    """
    if not has_craft(trainer):
        return config, ""
    baseline = stems(f"trainers/{structure_of(trainer)}")
    if config in baseline:
        return config, DEFAULT
    own = config in stems(f"trainers/{trainer}")
    for preset in sorted(presets(), key=len, reverse=True):  # a name may end as another does
        rest = config.removesuffix(f"_{preset}")
        if preset != DEFAULT and rest != config and (rest in baseline or not own):
            return rest, preset
    return config, DEFAULT


def crafted(structure: str, config: str, preset: str) -> str:
    """`joined`, for a structure. Raises InputError where that is the own name of another config."""
    name = joined(config, preset)
    if name != config and name in stems(f"trainers/{structure}"):
        raise InputError(
            f"config '{name}' of {with_craft(structure)} is ambiguous, '{config}' with the preset "
            f"'{preset}' or 'configs/trainers/{structure}/{name}.yaml': rename that file"
        )
    return name


def name_of(files: Iterable[str]) -> str:
    """The name of a config, from its files."""
    paths = [Path(file) for file in files]
    named = [path for path in paths if path.stem != DEFAULT or path.parent.name != "craft"]
    return "_".join(path.stem for path in named)


# Files


def check(name: str, known: Iterable[str], kind: str) -> None:
    """Raise InputError, with all known names and the nearest, for a name that is unknown."""
    known = sorted(known)
    if name not in known:
        raise InputError(
            f"unknown {kind} '{name}': {did_you_mean(name, known)}known ones are {', '.join(known)}"
        )


@functools.cache
def stems(folder: str) -> tuple[str, ...]:
    """Names of the config files in a folder of configs/; () if the folder is missing."""
    return tuple(sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml")))


@functools.cache
def trainers() -> tuple[str, ...]:
    """Trainers that have configs, each structure that takes CRAFT also with it."""
    folders = [path.name for path in (CONFIGS / "trainers").iterdir() if path.is_dir()]
    crafted = [with_craft(name) for name in folders if takes_craft(name)]
    return tuple(sorted({*folders, *crafted}))


def structures() -> list[str]:
    """Trainers that learn, without CRAFT."""
    return [name for name in trainers() if learns(name) and not has_craft(name)]


def names(trainer: str) -> list[str]:
    """Configs of a trainer."""
    known = set(stems(f"trainers/{trainer}"))
    if has_craft(trainer):
        baseline = stems(f"trainers/{structure_of(trainer)}")
        known |= {joined(config, preset) for config in baseline for preset in presets()}
    return sorted(known)


def _shown(trainer: str) -> list[str]:
    """`names`, in words, since each may have a preset behind it."""
    if not has_craft(trainer):
        return names(trainer)
    baseline = sorted({*stems(f"trainers/{trainer}"), *stems(f"trainers/{structure_of(trainer)}")})
    endings = " or ".join(f"_{preset}" for preset in presets() if preset != DEFAULT)
    return [*baseline, f"each also with {endings} behind it"]


def files(trainer: str, config: str) -> list[str]:
    """Paths below the repository, in the order to merge them.

    Raises InputError for an unknown trainer or config, with the known ones and the nearest.
    """
    check(trainer, trainers(), "trainer")
    known = names(trainer)
    if config not in known:
        raise InputError(
            f"unknown config of {trainer} '{config}': {did_you_mean(config, known)}known ones are "
            + ", ".join(_shown(trainer))
        )
    if config in stems(f"trainers/{trainer}"):
        return [f"configs/trainers/{trainer}/{config}.yaml"]
    baseline, preset = split(trainer, config)
    return [
        f"configs/trainers/{structure_of(trainer)}/{baseline}.yaml",
        f"configs/craft/{preset}.yaml",
    ]


def selected(folder: str, dataset: str, trainer: str, config: str) -> str:
    """Path of a config that `tools.select` wrote below `folder`, for a data set or for all.

    Raises InputError if there is none.
    """
    for below in (dataset, ""):
        path = Path(folder, "selected", below, trainer, f"{config}.yaml")
        if path.is_file():
            return str(path)
    raise InputError(
        f"the selection '{folder}' has no config '{config}' of {trainer} for {dataset}: select it "
        "with tools.select, or correct selection"
    )


def dataset_file(dataset: str) -> str:
    """Path below the repository. Raises InputError for an unknown data set."""
    check(dataset, stems("datasets"), "data set")
    return f"configs/datasets/{dataset}.yaml"


def registered(dataset: str) -> str:
    """The DATASET.NAME in the config of a data set. Raises InputError if the file has none."""
    path = dataset_file(dataset)
    node = _tree(path).get("DATASET")
    name = node.get("NAME") if isinstance(node, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"'{path}' has no DATASET.NAME: write it there, not in what BASE names")
    return name


def merged(files: Iterable[str]) -> dict:
    """What config files hold together, each after those that its BASE names.

    Raises InputError as `_with_bases`.
    """
    whole: dict = {}
    for file in files:
        for part in reversed(list(_with_bases(file))):
            _lay(whole, {key: value for key, value in _tree(part).items() if key != "BASE"})
    return whole


def changed(
    trainer: str,
    config: str,
    settings: Mapping[str, object],
    groups: tuple[str, ...],
    over: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, object]:
    """{key: value in its files} of what a config says and `settings`, {dotted key: value}, have
    otherwise, of the keys that begin with one of `groups`. over: values that replace its own.

    Raises InputError as `files`.
    """
    known = record.flat(merged(files(trainer, config))) | dict(over)
    return {
        key: value
        for key, value in known.items()
        if key.startswith(groups) and key in settings and _read(settings[key]) != _read(value)
    }


def _read(value: object) -> object:
    """A value, however YAML, JSON or yacs writes it."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if isinstance(value, (list, tuple)):
        return [_read(item) for item in value]
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)


def _with_bases(file: str) -> Iterator[str]:
    """A config file, and those that it starts from through BASE, the nearest first.

    Raises InputError, naming the file, for one that cannot be read, and for a circle.
    """
    seen: list[str] = []
    while file:
        if file in seen:
            raise InputError(f"config file '{file}' includes itself through BASE: break the circle")
        seen.append(file)
        yield file
        base = _tree(file).get("BASE") or ""
        if not isinstance(base, str):
            raise InputError(f"BASE (in '{file}') is no text: name the config file to start from")
        path = (ROOT / file).parent / os.path.expanduser(base)
        file = str(path.resolve()) if base else ""


def _lay(whole: dict, tree: dict) -> None:
    """Put a tree over another; groups are merged, values replaced."""
    for key, value in tree.items():
        if isinstance(value, dict):
            _lay(whole.setdefault(key, {}), value)
        else:
            whole[key] = value


def _tree(path: str) -> dict:
    """What a config file holds. Raises InputError, naming it, for one that cannot be read."""
    try:
        found = (ROOT / path).stat()
        return _parsed(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise InputError(
            f"config file '{path}' cannot be read ({error.strerror}): correct its path or rights"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"config file '{path}' is not valid YAML: {' '.join(str(error).split())}"
        ) from None


@functools.cache
def _parsed(path: str, time: int, size: int) -> dict:
    """Read once as long as it does not change: a plan of thousands of jobs asks for each file."""
    tree = strict_yaml.load((ROOT / path).read_text(encoding="utf-8")) or {}
    if not isinstance(tree, dict):
        raise InputError(f"config file '{path}' holds no 'KEY: value' pairs: write such")
    return tree


# Defaults


def backbone_of(file: str) -> str:
    """The file of configs/base that a config starts from, through BASE; "" without one.

    Raises InputError as `_with_bases`.
    """
    for path in itertools.islice(_with_bases(file), 1, None):
        if Path(path).parent == CONFIGS / "base":
            return Path(path).stem
    return ""


def _of_backbone(structure: str, backbone: str) -> list[str]:
    """Configs of a structure for a backbone, without those that cannot be read."""
    found = []
    for config in stems(f"trainers/{structure}"):
        with suppress(InputError):  # who asks for that config hears of it
            if backbone_of(f"configs/trainers/{structure}/{config}.yaml") == backbone:
                found.append(config)
    return found


def backbones() -> dict[str, str]:
    """{file of configs/base: its MODEL.BACKBONE.NAME} of those that name one.

    Raises InputError for a file that cannot be read.
    """
    found = {}
    for stem in stems("base"):
        if model := merged([f"configs/base/{stem}.yaml"]).get("MODEL"):
            found[stem] = model["BACKBONE"]["NAME"]
    return found


def bundled_backbone() -> str:
    """The backbone of the bundled suite, a file of configs/base."""
    return _tree("configs/defaults.yaml")["bundled"]["backbone"]


def bundled_datasets() -> list[str]:
    """Config names of the data sets that come with the repository."""
    return _tree("configs/defaults.yaml")["bundled"]["datasets"]


def default(dataset: str, trainer: str, backbone: str = "", protocol: str = "") -> str:
    """The config of a trainer for a data set where none is named.

    For a Craft trainer it is that of its structure, with the preset "default". Settings of the
    protocol win. Raises InputError if the trainer has none for the backbone, or several of which
    configs/defaults.yaml names none.
    """
    check(trainer, trainers(), "trainer")
    tree = _tree("configs/defaults.yaml")
    bundled = tree["bundled"]
    backbone = backbone or (
        bundled["backbone"] if dataset in bundled["datasets"] else tree["backbone"]
    )
    check(backbone, stems("base"), "backbone")
    structure = structure_of(trainer)
    for known in (tree["protocols"].get(protocol, {}), tree["configs"]):
        if named := known.get(backbone, {}).get(structure):
            return named
    candidates = _of_backbone(structure, backbone)
    if len(candidates) == 1:
        return candidates[0]
    raise InputError(
        f"{trainer} has {len(candidates) or 'no'} configs for {backbone}: name one of "
        f"{', '.join(stems(f'trainers/{structure}'))}"
    )
