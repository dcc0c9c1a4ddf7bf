"""The configuration: a tree of defaults, merged with files and command-line pairs."""

import difflib
import functools
import hashlib
import json
import os
from ast import literal_eval
from collections.abc import Sequence

from yacs.config import CfgNode

from dassl.config.defaults import DEFAULTS
from dassl.utils.tools import UserError

# Keys that change where or how fast a run happens, never its result: left out of the hash. (The number of workers does
# change it: each worker has an augmentation stream of its own.)
NOT_HASHED = {"OUTPUT_DIR", "DATASET.ROOT", "RESUME", "EVAL_ONLY", "VERBOSE", "USE_CUDA", "TRAIN.PRINT_FREQ", "TRAIN.CHECKPOINT_FREQ", "LOG.WANDB",
               "LOG.WANDB_PROJECT"}
# Values with which a run is what it was before there was the key: not counted, so that hashes of
# earlier runs stay.
AS_BEFORE = {
    "INPUT.TRANSPARENCY": ("drop",),
    "INPUT.UPRIGHT": (False,),
    "MODEL.BACKBONE.ACTIVATION": ("quick_gelu", "auto"),  # auto is quick_gelu, or refused
}
# Keys that may name a file, whose content then counts too.
_FILES = ("MODEL.BACKBONE.NAME", "MODEL.INIT_WEIGHTS")
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
        found = list(cfg_list)
        for place, key in enumerate(cfg_list[:-1:2]):
            old = self
            for part in key.split("."):
                old = old.get(part) if isinstance(old, dict) else None
            value = _with_floats(self._decode_cfg_value(cfg_list[2 * place + 1]), old)
            if isinstance(value, float):
                found[2 * place + 1] = value
        super().merge_from_list(found)


def _with_floats(value, old):
    """`value` (or a tree) with floats for its whole numbers that are floats in `old`."""
    if isinstance(value, dict):
        known = old if isinstance(old, dict) else {}
        return CfgNode({key: _with_floats(leaf, known.get(key)) for key, leaf in value.items()})
    return float(value) if type(value) is int and isinstance(old, float) else value


def get_cfg_default() -> Config:
    """A fresh clone of the default configuration."""
    return Config(DEFAULTS)


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the nodes of other trainers than `trainer`, as forks do before they print."""
    from dassl.engine import TRAINER_REGISTRY  # it imports this module

    kind = TRAINER_REGISTRY.get(trainer) if trainer in TRAINER_REGISTRY else None
    kept = (trainer.upper(), *(kind.config_nodes() if hasattr(kind, "config_nodes") else ()))
    for key, value in list(cfg.TRAINER.items()):
        if isinstance(value, CfgNode) and key not in kept:
            del cfg.TRAINER[key]


def merge_from_list(cfg: CfgNode, pairs: list[str]) -> None:
    """Merge ["A.B", "value", ...] into `cfg`. Raises UserError naming the unknown or mistyped key."""
    if len(pairs) % 2:
        raise UserError(f"the options {' '.join(map(str, pairs))} are not KEY VALUE pairs: '{pairs[-1]}' lacks its partner")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        *parents, leaf = key.split(".")
        tree = {leaf: value}
        for parent in reversed(parents):
            tree = {parent: tree}
        merge_from_dict(cfg, tree)


def merge_from_dict(cfg: CfgNode, tree: dict, where: str = "") -> None:
    """Merge a nested dict; whole numbers are taken for floats. `where` ends the sentence of the UserError."""
    known = _leaves(cfg)

    def merge(node: CfgNode, tree: dict, prefix: str) -> None:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if key not in node:
                if node.is_new_allowed():
                    node[key] = CfgNode(value) if isinstance(value, dict) else value
                    continue
                close = difflib.get_close_matches(name, known, 1, 0.0)[0]
                raise UserError(f"unknown config key '{name}'{where}: the closest known key is '{close}'")
            old = node[key]
            if isinstance(old, CfgNode) != isinstance(value, dict):
                raise UserError(f"config key '{name}'{where} is {'a group of keys' if isinstance(old, CfgNode) else 'one value'}, "
                                f"not {value!r}")
            if isinstance(old, CfgNode):
                merge(old, value, name + ".")
            else:
                node[key] = _coerce(value, old, name, where)

    merge(cfg, tree, "")


def _coerce(value, old, name: str, where: str):
    """`value` as the type of `old`; text is read as a Python literal where it is one, as yacs does."""
    if isinstance(value, str) and not (isinstance(old, str) and value == ""):
        try:
            parsed = literal_eval(value)
        except (ValueError, SyntaxError):
            parsed = value
        # A text key keeps text: the class name "7" or the folder name 2024 must not turn into a number.
        value = parsed if not isinstance(old, str) or isinstance(parsed, str) else value
    if old is None or value is None or type(value) is type(old):
        return value
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(old)(value)
    if isinstance(old, str) and type(value) in (int, float):
        return str(value)
    raise UserError(f"config key '{name}'{where} takes a {type(old).__name__} such as {old!r}, not {value!r}")


def _leaves(cfg: CfgNode, prefix: str = "") -> list[str]:
    return [leaf for key, value in cfg.items()
            for leaf in (_leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [f"{prefix}{key}"])]


def cfg_to_dict(cfg: CfgNode) -> dict:
    """The configuration as a plain nested dict (tuples become lists), ready for JSON."""
    return {key: cfg_to_dict(value) if isinstance(value, CfgNode) else list(value) if isinstance(value, tuple) else value
            for key, value in cfg.items()}


def counted(cfg: CfgNode, nodes: Sequence[str] | None = None) -> dict:
    """{key: value} of everything in the configuration that can change the result; of files that it names, the content.

    nodes: the groups of keys under TRAINER that the trainer reads; None: all of them. KeyError if the keys that name files are missing.
    """
    skipped = () if nodes is None else tuple(f"TRAINER.{key}." for key, value in cfg.TRAINER.items()
                                             if isinstance(value, CfgNode) and key not in nodes)
    flat = {key: _get(cfg, key) for key in _leaves(cfg) if key not in NOT_HASHED and not key.startswith(skipped)}
    flat = {key: value for key, value in flat.items() if value not in AS_BEFORE.get(key, ())}
    for key in _FILES:
        if content := _file_hash(flat[key]):
            flat[key] = content
    return flat


def config_hash(cfg: CfgNode, nodes: Sequence[str] | None = None) -> str:
    """12 hex digits that identify what is `counted`."""
    return hashlib.sha256(json.dumps(counted(cfg, nodes), sort_keys=True, default=str).encode()).hexdigest()[:12]


def _file_hash(name: str) -> str | None:
    """SHA-256 of the file of this name, here or in the repository; None if there is none."""
    for path in (name, os.path.join(_HERE, name)) if name else ():
        if os.path.isfile(path):
            stat = os.stat(path)
            return _content_hash(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)
    return None


@functools.lru_cache
def _content_hash(path: str, size: int, time: int) -> str:
    """A sweep asks for the same weights once for each of a thousand runs."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _get(cfg: CfgNode, key: str):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
