"""Learning curves of finished trainings, from the event files that every run writes.

The values of a batch are averaged over their epoch, and epochs over the runs of a row. Files are
read with TensorBoard's own reader.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from dassl import record
from tools import plots
from tools.protocols import Row

FOLDER = "tensorboard"
# What is drawn -> scalars, of which the first that a run has is taken: a method of one loss term
# writes its loss alone, and the loss of others holds more than the cross entropy.
MEASURES = {
    "cross entropy": ("train/cross_entropy", "train/loss"),
    "training accuracy (%)": ("train/acc",),
    "validation accuracy (%)": ("val/accuracy",),
}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} of a run's folder; {} without event files.

    Values that are not finite are left out. A file that is cut off is read as far as it goes.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = folder / FOLDER
    if not any(place.glob("*tfevents*")):
        return {}
    events = EventAccumulator(str(place), size_guidance={"scalars": 0})  # 0: all of them
    events.Reload()
    wanted = {tag for tags in MEASURES.values() for tag in tags}
    return {
        tag: [(one.step, one.value) for one in events.Scalars(tag) if math.isfinite(one.value)]
        for tag in events.Tags()["scalars"]
        if tag in wanted
    }


def by_epoch(scalars: Mapping[str, Sequence[tuple[int, float]]], epochs: int) -> dict:
    """{measure: {epoch, from 1: mean}} of a run of so many epochs.

    Steps of training are batches, counted through; those of validation are epochs, from 0.
    """
    found: dict[str, dict[int, float]] = {}
    steps = [
        step for tag, pairs in scalars.items() if tag.startswith("train/") for step, _ in pairs
    ]
    batches = math.ceil((max(steps) + 1) / epochs) if steps else 1
    for measure, tags in MEASURES.items():
        tag = next((tag for tag in tags if scalars.get(tag)), None)
        if tag is None:
            continue
        length = batches if tag.startswith("train/") else 1
        values: dict[int, list[float]] = defaultdict(list)
        for step, value in scalars[tag]:
            values[step // length + 1].append(value)
        found[measure] = {epoch: statistics.mean(every) for epoch, every in values.items()}
    return found


def epochs_of(results: Mapping) -> int:
    """Epochs that a run trained for; 0 for a test, and where the record does not tell."""
    loaded, epochs = results.get("loaded"), results.get("epochs")
    if loaded or isinstance(epochs, bool) or not isinstance(epochs, int):
        return 0
    return max(epochs, 0)


def trainings(rows: Sequence[Row]) -> dict[str, list[tuple[Path, int]]]:
    """{label of a row: [(folder, epochs)] of its trainings that have event files}."""
    found: dict[str, dict[Path, int]] = defaultdict(dict)
    for row in rows:
        folders = {path.parent for of_seed in row.files.values() for path in of_seed.values()}
        for folder in sorted(folders):
            if any((folder / FOLDER).glob("*tfevents*")):
                epochs = epochs_of(record.read(folder / record.NAME))
                if epochs:
                    found[plots.label(row, rows)][folder] = epochs
    return {label: list(folders.items()) for label, folders in found.items()}


def panels(
    rows: Sequence[Row], curves: Mapping[str, Sequence[Mapping[str, Mapping[int, float]]]]
) -> list[plots.Panel]:
    """Panels over epochs of {label: what `by_epoch` found of each run}, for `plots.learning`."""
    looks, shown = plots.looks(rows), []
    for measure in MEASURES:
        lines = {}
        for label, runs in curves.items():
            having = [run[measure] for run in runs if run.get(measure)]
            shared = set.intersection(*map(set, having)) if having else set()
            points = tuple(
                (epoch, statistics.mean(run[epoch] for run in having), 0.0)
                for epoch in sorted(shared)
            )
            if len(points) > 1:  # one point is no curve
                lines[label] = plots.Line(label, looks[label], points)
        if lines:
            shown += plots.panels("", measure, measure, plots.by_structure(rows, lines))
    return shown
