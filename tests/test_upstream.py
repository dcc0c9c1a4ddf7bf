"""Trainers and data sets use only what upstream Dassl has too, so that they can be dropped into a CoOp checkout."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import STRUCTURES, make_trainer

from dassl.engine import TrainerX

ROOT = Path(__file__).resolve().parent.parent
# What upstream Dassl exports (the interface described in docs/engine.md), as far as this project could use it.
UPSTREAM = {
    "dassl.config": {"get_cfg_default"},
    "dassl.data.data_manager": {"DataManager", "DatasetWrapper", "build_data_loader"},
    "dassl.data.datasets": {"DATASET_REGISTRY", "DatasetBase", "Datum", "build_dataset"},
    "dassl.data.transforms": {"build_transform"},
    "dassl.engine": {"TRAINER_REGISTRY", "SimpleNet", "SimpleTrainer", "TrainerBase", "TrainerX", "TrainerXU", "build_trainer"},
    "dassl.metrics": {"compute_accuracy"},
    "dassl.optim": {"build_lr_scheduler", "build_optimizer"},
    "dassl.utils": {"check_isfile", "count_num_param", "download_url", "listdir_nohidden", "load_checkpoint",
                    "load_pretrained_weights", "mkdir_if_missing", "read_image", "read_json", "set_random_seed", "tolist_if_not", "write_json"},
}
FILES = sorted((ROOT / "trainers").rglob("*.py")) + sorted((ROOT / "datasets").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_upstream_names_are_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dassl"):
            assert {alias.name for alias in node.names} <= UPSTREAM.get(node.module, set()), f"line {node.lineno}"


def test_everything_imports_where_dassl_has_no_user_error():
    code = "import dassl.engine, dassl.utils; del dassl.utils.UserError; import datasets, trainers, trainers.errors as e; print(e.UserError.__name__)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "ValueError", done.stderr


@pytest.mark.parametrize("name", [f"{craft}{name}" for craft in ("", "Craft") for name in STRUCTURES])
def test_a_step_where_batches_are_parsed_into_three(tmp_path, name, monkeypatch):
    """As upstream's TrainerX does: images, labels, domains."""
    monkeypatch.setattr(TrainerX, "parse_batch_train", lambda self, batch: (batch["img"], batch["label"], batch["domain"]))
    trainer = make_trainer(tmp_path, name)
    trainer.batch_idx, trainer.num_batches = 0, 9
    assert torch.tensor(trainer.forward_backward(next(iter(trainer.train_loader_x)))["loss"]).isfinite()
