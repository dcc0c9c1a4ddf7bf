"""The configuration: a tree of defaults, merged with files and command-line pairs."""

import contextlib
import functools
import hashlib
import json
import os
from ast import literal_eval
from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from dassl.config import rules
from dassl.config.defaults import DEFAULTS
from dassl.config.rules import LOG, MODEL, NOTHING, RESULT, affects, counts, keys
from dassl.errors import UserError
from dassl.names import closest
from dassl.strict_yaml import Scalar

__all__ = [
    "LOG",
    "MODEL",
    "NOTHING",
    "RESULT",
    "Config",
    "affects",
    "as_before",
    "cfg_to_dict",
    "clean_cfg",
    "closest",
    "config_hash",
    "counted",
    "counts",
    "file_part",
    "get_cfg_default",
    "hash_of",
    "keys",
    "merge_from_dict",
    "merge_from_list",
    "rules",
]

# Keys that may name a file, whose content then counts too.
_FILES = ("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS")
_WITH_FILES = ("open_clip",)  # kinds of names KIND:WORD/FILE
_HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Config(CfgNode):
    """yacs' root node, whose own merging takes whole numbers for floats, too.

    The files of other codes hold such. The nodes below are plain ones, since others add plain
    ones, and yacs merges only nodes of one type.
    """

    _create_config_tree_from_dict = CfgNode._create_config_tree_from_dict
    _decode_cfg_value = CfgNode._decode_cfg_value

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        super().merge_from_other_cfg(_with_floats(cfg_other, self))

    def merge_from_list(self, cfg_list: list) -> None:
        converted = list(cfg_list)
        for place, key in enumerate(cfg_list[:-1:2]):
            old: Any = self
            for part in key.split("."):
                old = old.get(part) if isinstance(old, dict) else None
            value = _with_floats(self._decode_cfg_value(cfg_list[2 * place + 1]), old)
            if isinstance(value, float):
                converted[2 * place + 1] = value
        super().merge_from_list(converted)


def _with_floats(value, old):
    """`value` (or a tree) with floats for its whole numbers that are floats in `old`."""
    if isinstance(value, dict):
        known = old if isinstance(old, dict) else {}
        return CfgNode({key: _with_floats(leaf, known.get(key)) for key, leaf in value.items()})
    return float(value) if type(value) is int and isinstance(old, float) else value


def get_cfg_default() -> Config:
    """A fresh clone of the default configuration."""
    cfg = Config()
    rules.declare(cfg, "", DEFAULTS)
    return cfg


get_cfg_default()  # stored configurations are compared by these declarations, too


def as_before(name: str) -> tuple:
    """Values with which a run equals one from before the key existed; () for most keys."""
    return rules.KEYS[name].as_before if name in rules.KEYS else ()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the nodes of other trainers than `trainer`, as forks do before they print."""
    from dassl.engine import TRAINER_REGISTRY  # it imports this module

    kind = TRAINER_REGISTRY.get(trainer) if trainer in TRAINER_REGISTRY else None
    nodes = kind.config_nodes(cfg) if kind and hasattr(kind, "config_nodes") else ()
    kept = (trainer.upper(), *nodes)
    for key, value in list(cfg.TRAINER.items()):
        if isinstance(value, CfgNode) and key not in kept:
            del cfg.TRAINER[key]


def merge_from_list(cfg: CfgNode, pairs: list[str]) -> None:
    """Merge ["A.B", "value", ...] into `cfg`.

    Raises UserError naming the key that is unknown, mistyped or given twice, or the value that does
    not fit it.
    """
    for key, value in rules.key_values(pairs):
        *parents, leaf = key.split(".")
        tree: dict = {leaf: value}
        for parent in reversed(parents):
            tree = {parent: tree}
        merge_from_dict(cfg, tree)


def merge_from_dict(cfg: CfgNode, tree: dict, where: str = "") -> None:
    """Merge a nested dict; whole numbers are taken for floats.

    `where`, the file that it is of, ends up in the sentence of the UserError.
    """

    def merge(node: CfgNode, tree: dict, prefix: str) -> None:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if key not in node:
                if node.is_new_allowed():
                    node[key] = CfgNode(_plain(value)) if isinstance(value, dict) else _plain(value)
                    continue
                raise UserError(_unknown(name, value, [key for key, _ in rules.leaves(cfg)], where))
            old = node[key]
            if isinstance(old, CfgNode) != isinstance(value, dict):
                raise UserError(
                    f"config key '{name}'{where} is "
                    f"{'a group of keys' if isinstance(old, CfgNode) else 'one value'}, not "
                    f"{rules.shown(_plain(value))}"
                )
            if isinstance(old, CfgNode):
                merge(old, value, name + ".")
            else:
                node[key] = _coerce(value, old, name, where)
                rules.check_value(name, node[key], where)

    merge(cfg, tree, "")


def _unknown(name: str, value, known: list[str], where: str) -> str:
    """The sentence about a key that does not exist; of a group of keys, about its first one."""
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    if name in known:  # the key of a file holds dots
        *groups, key = name.split(".")
        nested = " ".join(f"{group}:" for group in groups)
        return (
            f"config key '{name}'{where} is written with dots, but a file nests its groups: write "
            f"{nested} and, indented below it, {key}:"
        )
    close = closest(name, known)
    verb = "key is" if len(close) == 1 else "keys are"
    nearest = ", ".join(f"'{key}'" for key in close)
    return f"unknown config key '{name}'{where}: the closest known {verb} {nearest}"


def _plain(value):
    """Without the texts that a YAML file's scalars come with."""
    if isinstance(value, Scalar):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _written(value):
    """Text as it stands in the YAML file or on the command line, for a key that takes text."""
    if isinstance(value, Scalar):
        return value.text if value.value is not None or value.text == "~" else None
    return str(value) if type(value) in (int, float) else _plain(value)


def _literal(text: str):
    """A text as the Python literal that it is, else as it is."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _in_decimals(value, name: str, where: str):
    """A value of a YAML file.

    Raises UserError for a number, alone or in a list, that YAML reads otherwise than people.
    """
    if isinstance(value, list):
        return [_in_decimals(item, name, where) for item in value]
    if isinstance(value, Scalar) and value.misread:
        raise UserError(
            f"{name}{where} is {value.text}, which YAML takes for {value.value}: write the number "
            "in decimals"
        )
    return _plain(value)


def _coerce(value, old, name: str, where: str):
    """Convert `value` to the type of `old`; text that is a Python literal is read as one, as by
    yacs.

    Raises UserError, naming the key, if that is impossible.
    """
    rule = rules.KEYS[name].rule if name in rules.KEYS else None
    texts = isinstance(rule, rules.Several) and isinstance(rule.item, rules.Text)
    if isinstance(old, str):
        value = _written(value)
    elif not (texts and isinstance(value, list)):
        value = _in_decimals(value, name, where)
    if isinstance(value, str) and not (isinstance(old, str) and value == ""):
        parsed = _literal(value)
        # A text key keeps text: the class name "7" or the folder name 2024 must not turn into a
        # number.
        value = parsed if not isinstance(old, str) or isinstance(parsed, str) else value
    if isinstance(rule, rules.Path) and isinstance(value, str):
        value = os.path.expanduser(value)
    if old is None or value is None or type(value) is type(old) and not texts:
        return value
    if isinstance(old, float) and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    if isinstance(rule, rules.Number) and type(value) is float:
        return value
    if isinstance(old, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(old)(map(_written, value) if texts else value)
    if isinstance(rule, rules.Several):
        raise UserError(f"{name}{where} is {rules.shown(_plain(value))}: {rule.advice(value)}")
    raise UserError(
        f"config key '{name}'{where} takes a {type(old).__name__} such as {old!r}, not "
        f"{rules.shown(_plain(value))}"
    )


def cfg_to_dict(cfg: CfgNode) -> dict:
    """The configuration as a plain nested dict (tuples become lists), ready for JSON."""
    return {
        key: cfg_to_dict(value)
        if isinstance(value, CfgNode)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in cfg.items()
    }


def counted(cfg: CfgNode, nodes: Sequence[str] | None = None) -> dict:
    """{key: value} of everything in the configuration that can change the result; of files that it
    names, the content.

    nodes: the groups of keys under TRAINER that the trainer reads; None: all of them. KeyError if
    the keys that name files are missing.
    """
    skipped = (
        ()
        if nodes is None
        else tuple(
            f"TRAINER.{key}."
            for key, value in cfg.TRAINER.items()
            if isinstance(value, CfgNode) and key not in nodes
        )
    )
    flat = {
        key: value
        for key, value in rules.leaves(cfg)
        if counts(key) and not key.startswith(skipped) and value not in as_before(key)
    }
    for key in _FILES:
        flat[key] = _with_content(flat[key])
    return flat


def config_hash(cfg: CfgNode, nodes: Sequence[str] | None = None) -> str:
    """12 hex digits that identify the settings in `counted`."""
    return hash_of(counted(cfg, nodes))


def hash_of(settings: dict) -> str:
    """12 hex digits that identify what `counted` returned."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_content(name: str) -> str:
    """The content in place of a name: of a file, of a folder's files, of KIND:WORD/FILE's file.

    A name of a model that is none of these stays.
    """
    path = file_part(name)
    content = _file_hash(path)
    return name if content is None else name[: len(name) - len(path)] + content


def file_part(name: str) -> str:
    """The part of a name that may be a file or folder: FILE of KIND:WORD/FILE, else all of it."""
    kind, colon, rest = name.partition(":")
    word, slash, path = rest.partition("/")
    return path if kind in _WITH_FILES and slash else name


def _file_hash(name: str) -> str | None:
    """SHA-256 of a file, relative to the working folder or the repository; None if it does not
    exist. Of a folder, of the names and content of the files in it, but hidden ones.
    """
    for path in (name, os.path.join(_HERE, name)) if name else ():
        if os.path.isfile(path):
            stat = os.stat(path)
            return _content_hash(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)
        if os.path.isdir(path):
            files = sorted(
                entry.path
                for entry in os.scandir(path)
                if entry.is_file() and not entry.name.startswith(".")
            )
            listed = [(os.path.basename(file), _file_hash(file)) for file in files]
            return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return None


@functools.lru_cache
def _content_hash(path: str, size: int, time: int) -> str:
    """A sweep asks for the same weights once for each of a thousand runs."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
