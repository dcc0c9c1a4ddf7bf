"""results.json: what a run leaves behind."""

import datetime
import os.path as osp
import resource
import sys

import torch

from dassl import distributed
from dassl.config import cfg_to_dict
from dassl.identity import same_run
from dassl.record import NAME as RESULTS
from dassl.record import as_now, models
from dassl.utils import read_json, write_json
from dassl.utils.tools import versions


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def write(trainer, metrics: dict, split: str | None) -> None:
    """Merge the metrics of `split` into OUTPUT_DIR/results.json; "complete" once training, if any,
    is over.

    Metrics of other splits stay if they are of the same run and the same model. Without a split the
    file is written all the same. Only the first process writes, and nothing is written without
    OUTPUT_DIR.
    """
    if not trainer.output_dir or not distributed.is_main():
        return
    path = osp.join(trainer.output_dir, RESULTS)
    record = run_of(trainer)
    tested = _earlier_metrics(path, record)
    if split is not None:
        tested[split] = {
            **{name: float(value) for name, value in metrics.items()},
            "total": getattr(trainer.evaluator, "_total", None),
            "correct": getattr(trainer.evaluator, "_correct", None),
            **getattr(trainer.evaluator, "details", dict)(),
        }
    write_json({**record, "metrics": tested, **_circumstances(trainer)}, path)


def run_of(trainer) -> dict:
    """What the run was: its configuration in short, data and model."""
    cfg = trainer.cfg
    return {
        "complete": not trainer._training,
        "run": trainer.__dict__.get("described"),
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "classnames": trainer._classnames(),
        "subsample_classes": cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"),
        "shots": cfg.DATASET.NUM_SHOTS,
        "seed": cfg.SEED,
        "config_hash": trainer._hash(),
        "data": trainer._data(),
        **{name: getattr(_dataset(trainer), name, "") or None for name in ("picks", "places")},
        "loaded": trainer.__dict__.get("loaded"),
        "began_from": trainer.__dict__.get("began_from"),
        "model_sha256": trainer.__dict__.get("model_sha256"),
        "pretrained": trainer.__dict__.get("pretrained"),
        "deployed": trainer._deployed,
    }


def _dataset(trainer):
    """The data set of a trainer; None without data."""
    return getattr(trainer.__dict__.get("dm"), "dataset", None)


def _earlier_metrics(path: str, record: dict) -> dict:
    """{split: metrics} that the file holds already of the same run and model."""
    before = read_json(path) if osp.isfile(path) else {}
    before = as_now(before) if isinstance(before, dict) else {}
    same_model = before.get("model_sha256") == record["model_sha256"]
    if (
        same_model
        and models(before) == models(record)
        and same_run(before.get("config_hash"), record["config_hash"])
    ):
        return before.get("metrics", {})
    return {}


def _circumstances(trainer) -> dict:
    """How long the run took and where it ran; the whole configuration last."""
    return {
        "epochs": 0 if trainer._training is None else trainer.epoch + 1,
        "wall_time_s": round(trainer._seconds(), 2),
        "peak_memory_mb": round(_peak_memory(trainer.device), 1),
        "versions": versions(),
        "device": str(trainer.device),
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "started": trainer._started,
        "finished": now(),
        "config": cfg_to_dict(trainer.cfg),
    }


def _peak_memory(device: torch.device) -> float:
    """MiB: of the GPU's memory with CUDA, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
