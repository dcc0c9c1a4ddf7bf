"""DATASET.SOURCE_DOMAINS and TARGET_DOMAINS: which domains are learned from, which are tested."""

import re
from collections.abc import Sequence

from datasets.base import Split, UserError

_WHOLE = re.compile(r"([+-]?\d{1,18})([.,]0*)?")  # nobody gives a class a longer number


def is_number(value: str) -> bool:
    return bool(_WHOLE.fullmatch(value))


def number_or_text(value: str) -> str:
    """One spelling for a whole number (1.0, 01 and +1 are "1"); other values as they are."""
    whole = _WHOLE.fullmatch(value)
    return str(int(whole[1])) if whole else value


def choose_domains(
    split: Split, cfg, names: Sequence, place: str, column: str = "", remedy: str = ""
) -> Split:
    """A split of the chosen domains; a row's fourth value is its place in `names`.

    Only the source domains are trained on and validated; only the target domains are tested, and
    their images in "unlabelled", or without that part in "train", are the unlabelled ones. Raises
    UserError, naming `place` and its `column`, for an unknown domain, and for a choice that
    leaves no test image or a class without training images.
    """
    split, chosen = dict(split), {}
    apart = split.pop("unlabelled", split["train"])
    for key in ("SOURCE_DOMAINS", "TARGET_DOMAINS"):
        wanted = [number_or_text(str(name).strip()) for name in cfg.DATASET[key]]
        if unknown := [name for name in wanted if name not in names]:
            raise UserError(
                f"DATASET.{key} names '{unknown[0]}', which is not in "
                f"{column}{place} "
                f"({', '.join(map(str, names)) or 'no column'})"
            )
        chosen[key] = {names.index(name) for name in wanted}
    if target := chosen["TARGET_DOMAINS"]:
        split["unlabelled"] = [row for row in apart if row[3] in target]
        split["test"] = [row for row in split["test"] if row[3] in target]
        if not split["test"]:
            raise UserError(
                f"DATASET.TARGET_DOMAINS leaves no test image of {place}: name more domains"
            )
    if source := chosen["SOURCE_DOMAINS"]:
        classes = {row[1]: row[2] for row in split["train"]}
        split |= {
            part: [row for row in split[part] if row[3] in source] for part in ("train", "val")
        }
        if lost := sorted(classes.keys() - {row[1] for row in split["train"]}):
            raise UserError(
                f"DATASET.SOURCE_DOMAINS leaves class '{classes[lost[0]]}' of "
                f"{place} without training images: name more domains{remedy}"
            )
    return split
