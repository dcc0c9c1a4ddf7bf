"""A key of the configuration, declared once: default, allowed values, what it affects, help.

    declare(cfg, "TRAINER.MINE", {
        "N_CTX": key(16, whole(1), help="Number of context vectors."),
        "MODE": key("fast", one_of("fast", "exact"), affects="result"),
    })

adds keys with their defaults to a configuration and keeps their declarations by dotted name. A
default without a rule takes that of its type: truth values, whole numbers, finite numbers and texts
are told apart. `check` looks at a whole configuration, `affects` tells what a key changes, and
docs/options.md shows all of them. Nothing here imports torch.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yacs.config import CfgNode

from dassl.errors import UserError
from dassl.names import did_you_mean
from dassl.printable import CONTROL

MOST_WHOLE = 2**31 - 1  # what every library that counts can count to
MOST_NUMBER = 1e30  # single precision, in which models learn, ends soon after
_VERB = re.compile("^(set it to|choose one of|write|give) ")


@dataclass(frozen=True)
class Rule:
    """What a value may be: whether it `fits` and, where it does not, which `advice` ends the
    sentence.
    """

    def fits(self, value: Any) -> bool:
        raise NotImplementedError

    def advice(self, value: Any) -> str:
        raise NotImplementedError

    def allowed(self) -> str:
        """The values that fit, in words: the advice without its verb."""
        return _VERB.sub("", self.advice(None))


@dataclass(frozen=True)
class Flag(Rule):
    """True or False."""

    def fits(self, value: Any) -> bool:
        return type(value) is bool

    def advice(self, value: Any) -> str:
        return "set it to True or False"


@dataclass(frozen=True)
class Number(Rule):
    """A finite number from `least` to `most`, or `besides`; with `above` greater than `least`."""

    least: float = -MOST_NUMBER
    most: float = MOST_NUMBER
    above: bool = False
    besides: float | None = None
    words: str = ""  # instead of the sentence that the limits make

    def fits(self, value: Any) -> bool:
        if type(value) not in (int, float) or not self.least <= value <= self.most:
            return type(value) in (int, float) and value == self.besides
        return not self.above or value > self.least

    def advice(self, value: Any) -> str:
        besides = "" if self.besides is None else f"{self.besides} or "
        if self.words:
            return self.words
        large = type(value) in (int, float) and value > self.most
        if self.least > -MOST_NUMBER and (large or self.most < MOST_NUMBER):
            return f"set it to {besides}a number from {self.least} to {self.most}"
        if self.above:
            return f"set it to {besides}a number above {self.least}"
        return (
            f"set it to {besides}{self.least} or more"
            if self.least > -MOST_NUMBER
            else "set it to a finite number"
        )


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number from `least` to `most`, or `besides`; with `odd` no even one."""

    least: int = -MOST_WHOLE
    most: int = MOST_WHOLE
    besides: int | None = None
    odd: bool = False

    def fits(self, value: Any) -> bool:
        if type(value) is not int:
            return False
        inside = self.least <= value <= self.most
        return value == self.besides or inside and (value % 2 == 1 or not self.odd)

    def advice(self, value: Any) -> str:
        besides = "" if self.besides is None else f"{self.besides} or "
        kind = "an odd whole number" if self.odd else "a whole number"
        bounded = self.most < MOST_WHOLE and self.least > -MOST_WHOLE
        if type(value) is int and value > self.most or bounded:
            return f"set it to {besides}{kind} from {self.least} to {self.most}"
        if self.least == -MOST_WHOLE:
            return f"set it to {besides}{kind}"
        if self.odd:
            return f"set it to {kind} from {self.least}"
        return f"set it to {besides}{self.least} or more"


@dataclass(frozen=True)
class Text(Rule):
    """Text on one line, without control characters; not empty unless `empty`."""

    empty: bool = True

    def fits(self, value: Any) -> bool:
        if not isinstance(value, str) or CONTROL.search(value):
            return False
        return self.empty or bool(value.strip())

    def advice(self, value: Any) -> str:
        if isinstance(value, str) and CONTROL.search(value):
            return "write it on one line, without control characters"
        more = ", or two quotes for an empty one" if self.empty else " that is not empty"
        return f"write a text{more}"

    def allowed(self) -> str:
        return "a text" if self.empty else "a text that is not empty"


@dataclass(frozen=True)
class Path(Text):
    """The path of a file or folder, or a name that could be one; `~` is the home folder."""

    utf8: bool = False  # whether a library writes there that takes no other names

    def fits(self, value: Any) -> bool:
        if not super().fits(value) or self.utf8 and value != _as_utf8(value):
            return False
        return value not in ("None", "null") and not value.startswith("~")

    def advice(self, value: Any) -> str:
        if value in ("None", "null"):
            return f"leave it empty, or write ./{value} for a path of that name"
        if isinstance(value, str) and value.startswith("~"):
            return "no home folder is known for it, write the path out"
        if isinstance(value, str) and value != _as_utf8(value):
            return "TensorBoard writes to UTF-8 names only, rename that folder or choose another"
        return super().advice(value)

    def allowed(self) -> str:
        return "a path" if self.empty else "a path that is not empty"


def _as_utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Template(Text):
    """A text with one {} where the class name goes, or empty."""

    def fits(self, value: Any) -> bool:
        if not super().fits(value):
            return False
        return value == "" or value.count("{}") == value.count("{") == value.count("}") == 1

    def advice(self, value: Any) -> str:
        if isinstance(value, str) and not CONTROL.search(value):
            return "write one {} where the class name goes, and no other braces"
        return super().advice(value)

    def allowed(self) -> str:
        return "a text with one {}" + (", or empty" if self.empty else "")


@dataclass(frozen=True)
class OneOf(Text):
    """One of `choices`, which may be a function that tells them when they are needed."""

    choices: Sequence | Callable[[], Iterable] = ()
    empty: bool = False

    def known(self) -> list:
        return list(self.choices() if callable(self.choices) else self.choices)

    def fits(self, value: Any) -> bool:
        if self.empty and value == "":
            return True
        return any(type(value) is type(choice) and value == choice for choice in self.known())

    def advice(self, value: Any) -> str:
        known = [str(choice) for choice in self.known()]
        hint = did_you_mean(value, known) if len(known) > 4 else ""  # a few are seen at a glance
        return f"{hint}choose one of {', '.join(known)}"

    def allowed(self) -> str:
        known = ", ".join(map(str, self.known()))
        return f"{known}, or empty" if self.empty else known


@dataclass(frozen=True)
class Several(Rule):
    """A list or tuple of values that fit `item`: `count` of them, or without `count` at least
    `least`.
    """

    item: Rule
    words: str | Callable[[], str]
    count: int | None = None
    least: int = 0
    rising: bool = False  # none smaller than the one before
    distinct: bool = False  # none twice

    def fits(self, value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or not all(map(self.item.fits, value)):
            return False
        if self.distinct and self._twice(value):
            return False
        enough = len(value) >= self.least if self.count is None else len(value) == self.count
        return enough and (not self.rising or list(value) == sorted(value))

    def advice(self, value: Any) -> str:
        if self.distinct and isinstance(value, (list, tuple)) and self._twice(value):
            return f"give {self._twice(value)[0]} once"
        return self.words() if callable(self.words) else self.words

    @staticmethod
    def _twice(value: Sequence) -> list:
        return [item for place, item in enumerate(value) if item in value[:place]]


# What a key affects. Only the last two are part of a run's hash; only the last decides which models
# a
# checkpoint can be loaded into.
NOTHING, LOG, RESULT, MODEL = AFFECTS = ("nothing", "log", "result", "model")


@dataclass(frozen=True)
class Key:
    """The declaration of a key.

    rule: None takes the rule of the default's type. help: whole sentences for docs/options.md.
    affects: one of AFFECTS; empty takes that of the key's group (see `affects`). as_before: values
    with which a run is what it was before the key existed; these are left out of the hash, so that
    earlier hashes stay. set_by: for a key that scripts and sweeps set themselves, so that it is no
    KEY VALUE option there: how, as a clause. Raises ValueError for an unknown `affects`.
    """

    default: Any
    rule: Rule | None = None
    help: str = ""
    affects: str = ""
    as_before: tuple = ()
    set_by: str = ""

    def __post_init__(self):
        if self.affects not in ("", *AFFECTS):
            raise ValueError(f"affects is '{self.affects}': choose one of {', '.join(AFFECTS)}")


# How a key is declared: the words of dassl.config.defaults and of every extend_cfg.

key, whole, number, several, path, template = Key, Whole, Number, Several, Path, Template


def one_of(*choices, empty: bool = False) -> OneOf:
    """A rule: one of `choices`, or of the names that a single function returns.

    empty: whether empty text fits, too.
    """
    return OneOf(empty, choices[0] if len(choices) == 1 and callable(choices[0]) else choices)


def positive(words: str = "", least: float = 1e-6, most: float = 1e6) -> Number:
    """A number above 0 that single precision can divide by."""
    return Number(least, most, words=words or "set it to a positive number")


def text(empty: bool = True) -> Text:
    return Text(empty)


KEYS: dict[str, Key] = {}  # every declared key by dotted name, with its rule


def keys(*affected: str) -> dict[str, Key]:
    """{dotted name: declaration} of the declared keys that affect one of `affected`; of all without
    arguments.
    """
    return {name: key for name, key in KEYS.items() if not affected or affects(name) in affected}


def affects(name: str) -> str:
    """One of AFFECTS for a dotted key name.

    A key that does not say so, and one that another code added without declaring it, affects the
    model if it is in the groups TRAINER or MODEL, else the result. The precision (PREC) of a method
    affects the result: a checkpoint fits every precision.
    """
    if name in KEYS and KEYS[name].affects:
        return KEYS[name].affects
    group, _, last = name.rpartition(".")
    return MODEL if group.startswith(("TRAINER", "MODEL")) and last != "PREC" else RESULT


def counts(name: str) -> bool:
    """Whether a key is part of a run's hash."""
    return affects(name) in (RESULT, MODEL)


def declare(cfg: CfgNode, node: str, options: Mapping) -> None:
    """Add `options` to the group `node`, a dotted path in `cfg`, and keep their rules.

    options: {name: Key, plain default, or a dict of these}.
    """
    for part in filter(None, node.split(".")):
        cfg = cfg.setdefault(part, CfgNode())
    _fill(cfg, f"{node}." if node else "", options)


def _fill(cfg: CfgNode, prefix: str, options: Mapping) -> None:
    for name, value in options.items():
        if isinstance(value, Mapping):
            cfg[name] = CfgNode()
            _fill(cfg[name], f"{prefix}{name}.", value)
            continue
        declared = value if isinstance(value, Key) else Key(value)
        cfg[name] = copy.copy(declared.default)
        if declared.rule is None:
            declared = replace(declared, rule=_of_type(declared.default))
        KEYS[prefix + name] = declared


def _of_type(default: Any) -> Rule | None:
    """The rule of a default that was declared without one."""
    by_type = {bool: Flag, int: Whole, float: Number, str: Text}
    return by_type[type(default)]() if type(default) in by_type else None


def key_values(words: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of a command line's KEY VALUE ...

    Raises UserError for a key without a value, and for a key given twice: one of the two values
    would be lost.
    """
    if len(words) % 2:
        raise UserError(
            f"the options {' '.join(map(str, words))} are not KEY VALUE pairs: '{words[-1]}' lacks "
            "its partner"
        )
    pairs = list(zip(words[::2], words[1::2], strict=True))
    known: dict[str, str] = {}
    for key, value in pairs:
        if key in known:
            raise UserError(f"{key} is given twice ({known[key]}, {value}): take one out")
        known[key] = value
    return pairs


def check_value(name: str, value: Any, where: str = "") -> None:
    """Raise UserError, naming the key, if it has a rule that the value does not fit.

    where: " (in 'FILE')", if the value is from a file.
    """
    rule = KEYS[name].rule if name in KEYS else None
    if rule is not None and not rule.fits(value):
        raise UserError(f"{name}{where} is {shown(value)}: {rule.advice(value)}")


def shown(value: Any) -> str:
    """A value in a sentence: on one line, and not longer than a line."""
    words = repr(value)
    return words if len(words) <= 100 else f"{words[:60]} ... {words[-30:]}"


def check(cfg: CfgNode) -> None:
    """Raise UserError for the first value in `cfg` that does not fit the rule of its key."""
    for name, value in leaves(cfg):
        check_value(name, value)


def leaves(cfg: CfgNode, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted name, value) of every key."""
    found: list[tuple[str, Any]] = []
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            found += leaves(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
