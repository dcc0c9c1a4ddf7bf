"""The bash scripts: they parse, explain themselves, and keep CoOp's folder layout from any folder."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh")) + [ROOT / ".ci/run"]


def bash(*arguments, cwd=ROOT, **env):
    return subprocess.run(["bash", *map(str, arguments)], cwd=cwd, env={**os.environ, **{k: str(v) for k, v in env.items()}},
                          capture_output=True, text=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_syntax(path):
    assert bash("-n", path).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-x", path], capture_output=True, text=True, cwd=ROOT)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", ["base2new_train.sh", "base2new_test.sh"])
def test_too_few_arguments_print_the_usage(name):
    done = bash(ROOT / "scripts" / name, "openmoji", "CoOp")
    assert done.returncode == 2 and f"usage: {name} DATASET TRAINER CFG SEED" in done.stderr


@pytest.mark.slow
def test_train_and_test_on_the_bundled_benchmark_from_another_folder(tmp_path):
    """Two epochs of the real thing, with the shipped weights, through the scripts."""
    env = {"SHOTS": 1, "OUTPUT": "out", "DATA": "data"}
    python = ROOT / ".venv/bin/python"
    if not python.exists():
        pytest.skip("the scripts' environment .venv/ is not there")
    made = subprocess.run([python, "-m", "datasets.prepare", "openmoji", "--root", tmp_path / "data"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    cell = ("openmoji", "CraftCoOp", "openmoji", 1)
    before = bash(ROOT / "scripts/base2new_test.sh", *cell, cwd=tmp_path, **env)
    assert before.returncode == 2 and "holds no finished run: train it first with scripts/base2new_train.sh" in before.stderr
    done = bash(ROOT / "scripts/base2new_train.sh", *cell, "OPTIM.MAX_EPOCH", 2, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    trained = tmp_path / "out/base2new/train_base/openmoji/shots_1/CraftCoOp/openmoji/seed1"
    assert (trained / "prompt_learner/model.pth.tar-2").stat().st_size < 50_000  # what was learned, and no CLIP
    assert "CRAFT" in (trained / "log.txt").read_text()
    again = bash(ROOT / "scripts/base2new_train.sh", *cell, "OPTIM.MAX_EPOCH", 2, cwd=tmp_path, **env)
    assert again.returncode == 0 and again.stdout.startswith("Done already")
    for target in ("openmoji", "openmoji_line"):
        done = bash(ROOT / "scripts/base2new_test.sh", *cell, "OPTIM.MAX_EPOCH", 2, cwd=tmp_path, TARGET=target, **env)
        assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(tmp_path / "out/base2new")).split("/shots_1/")[0]: json.loads(path.read_text()) for path in
             (tmp_path / "out").rglob("results.json")}
    assert set(found) == {"train_base/openmoji", "test_new/openmoji", "test_base/openmoji_line_from_openmoji", "test_new/openmoji_line_from_openmoji"}
    totals = {name: results["metrics"]["test"]["total"] for name, results in found.items()}
    assert totals["train_base/openmoji"] == totals["test_base/openmoji_line_from_openmoji"] == 341
    assert totals["test_new/openmoji"] == totals["test_new/openmoji_line_from_openmoji"] == 400
