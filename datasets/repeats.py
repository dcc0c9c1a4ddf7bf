"""Training images that another run got wrong, several times: JTT's second stage.

Liu et al., "Just train twice", ICML 2021, arXiv 2107.09044. The first stage is any run, tested on
its training images (TEST.SPLIT train).
"""

import logging
import os
import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from dassl.data.datasets import Datum
from datasets.errors import UserError

try:  # upstream's Dassl saves no outcomes
    import dassl.outcomes as outcomes
    import dassl.record as record
except ModuleNotFoundError:
    outcomes = record = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

SPLIT = "train"
HOW = "test the first run with --eval-only --model-dir RUN TEST.SPLIT train in a folder of its own"


def place(folder: str) -> str:
    """The file that says which images the first run got wrong."""
    if outcomes is None:
        raise UserError("DATASET.REPEAT_FROM needs the engine of this project: leave it out")
    return str(outcomes.place(osp.expanduser(folder), SPLIT))


def with_errors_repeated(items: Sequence[Datum], root: str, folder: str, times: int) -> list[Datum]:
    """The images, those that the run in `folder` got wrong `times` times, first copies in place.

    Raises UserError if the run was not tested on exactly these images.
    """
    home = Path(place(folder)).parent
    try:
        results = record.read(home / record.NAME)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"DATASET.REPEAT_FROM is '{folder}', whose {record.NAME} cannot be read ({reason}): "
            f"{HOW}"
        ) from None
    found = outcomes.read(home, SPLIT, results)
    paths = [osp.relpath(item.impath, root).replace(os.sep, "/") for item in items]
    if sorted(paths) != sorted(found.paths):
        raise UserError(
            f"DATASET.REPEAT_FROM is '{folder}', which was tested on other images than this run "
            f"trains on ({len(found.paths)} there, {len(paths)} here): give both runs the same "
            "data set, shots and seed"
        )
    wrong = {path for path, hit in zip(found.paths, found.correct, strict=True) if not hit}
    again = [item for item, path in zip(items, paths, strict=True) if path in wrong]
    log.warning(
        f"Note: {len(again)} of {len(items)} training images, which '{folder}' got wrong, are in "
        f"an epoch {times} times"
    )
    return [*items, *(item for item in again for _ in range(times - 1))]
