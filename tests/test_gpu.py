"""On a GPU: every method against the CPU, every precision, going on, the programs.

Skipped where there is none: `bash scripts/test.sh --gpu -k test_gpu`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_distributed import TORCHRUN, arguments, own
from test_domains import MMD
from test_domains import trainer_of as on_two_domains
from tiny_run import STRUCTURES, make_trainer, train_one_epoch
from two_processes import FIXED_BANDWIDTH

from craft import load_run
from dassl.utils import deterministic

__all__ = ["own"]  # a fixture
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU, and pytest --gpu"
)
ROOT = Path(__file__).resolve().parent.parent
GPU = ("USE_CUDA", True)
FIXED = ("INPUT.TRANSFORMS", ("center_crop", "normalize"), "OPTIM.LR", 0.005)
RIVALS = {
    "KgCoOp": ("TRAINER.KGCOOP.PREC", "fp32"),
    "ProGrad": ("TRAINER.PROGRAD.PREC", "fp32"),
    "TCP": ("TRAINER.TCP.PREC", "fp32", "TRAINER.TCP.PROMPT_LAYER", 2),
    "LinearProbe": ("TRAINER.LINEAR_PROBE.PREC", "fp32"),
    "TipAdapter": (
        *("TRAINER.TIP_ADAPTER.PREC", "fp32", "TRAINER.TIP_ADAPTER.VIEWS", 2),
        *("TRAINER.TIP_ADAPTER.FINE_TUNE", True),
    ),
}
METHODS = {kind + name: () for kind in ("", "Craft") for name in STRUCTURES} | RIVALS
NODES = {name: options[0].split(".")[1] for name, options in RIVALS.items()} | STRUCTURES
LOWER = {"fp16": 0.02, "bf16": 0.1, "amp": 0.02}  # of the largest logit


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    """Convolutions in single precision, as on a CPU; all else as train.py has it with a seed."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with deterministic():
        yield


def learned(trainer) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu() for key, value in trainer.model.state_dict().items()}


def precision_key(name: str) -> str:
    return f"TRAINER.{NODES[name.removeprefix('Craft')]}.PREC"


def trained(folder, name, *options):
    trainer = make_trainer(folder, name, *options)
    trainer.train()
    return trainer


def logits_of(trainer) -> torch.Tensor:
    trainer.set_model_mode("eval")
    with torch.no_grad():
        batches = [trainer.parse_batch_test(batch)[0] for batch in trainer.test_loader]
        return torch.cat([trainer.model_inference(batch).float().cpu() for batch in batches])


@pytest.mark.parametrize("name", METHODS)
def test_a_training_is_that_of_the_cpu(tmp_path, name):
    options = (*METHODS[name], *FIXED)
    cpu = trained(tmp_path / "cpu", name, *options)
    gpu = trained(tmp_path / "gpu", name, *options, *GPU)
    assert gpu.device.type == "cuda" and next(gpu.model.parameters()).is_cuda
    ours, theirs = learned(gpu), learned(cpu)
    for key, value in theirs.items():
        assert torch.allclose(ours[key], value, atol=1e-4, rtol=1e-3), key
    assert torch.allclose(logits_of(gpu), logits_of(cpu), atol=1e-2)
    (results,) = (tmp_path / "gpu").rglob("results.json")
    assert 0 < json.loads(results.read_text())["peak_memory_mb"] < 5000


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("name", METHODS)
def test_lower_precisions_step_where_full_precision_does(tmp_path, name, precision):
    """One step with all images: more would multiply what rounding does to random weights."""
    one = ("OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 12)
    starts, steps = [], []
    for kind in ("fp32", precision):
        options = (*METHODS[name], *FIXED, *one, precision_key(name), kind, *GPU)
        trainer = make_trainer(tmp_path / kind, name, *options)
        if kind == "amp":  # the usual scale would leave out the first step
            trainer.scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
        starts.append(logits_of(trainer))
        before = {key: value.clone() for key, value in learned(trainer).items()}
        trainer.train()
        moved = [(value - before[key]).flatten() for key, value in learned(trainer).items()]
        steps.append(torch.cat(moved))
    difference = (starts[1] - starts[0]).abs().max() / starts[0].abs().max()
    assert 0 < difference < LOWER[precision]
    assert torch.cosine_similarity(*steps, dim=0) > 0.98
    assert steps[1].norm() / steps[0].norm() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "amp"])
@pytest.mark.parametrize("name", ["CraftCoOp", "CraftCoCoOp", "CraftPromptSRC", "CraftMaPLe"])
def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(tmp_path, name, precision):
    node = precision_key(name)
    options = (node, precision, "OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, *GPU)
    whole = trained(tmp_path / "whole", name, *options)
    again = trained(tmp_path / "again", name, *options)
    half = make_trainer(tmp_path / "cut", name, *options)
    train_one_epoch(half)
    rest = trained(tmp_path / "cut", name, *options)
    assert rest.start_epoch == 1
    if precision == "amp":
        assert rest.scaler is not None and rest.scaler.state_dict() == whole.scaler.state_dict()
    for key, value in learned(whole).items():
        assert torch.equal(learned(again)[key], value), f"{key} of the same seed"
        assert torch.equal(learned(rest)[key], value), key


@pytest.mark.parametrize(
    "options",
    [
        ("TRAINER.TEXT_CHECKPOINTING", True),
        (*MMD, "unlabelled"),
        (*MMD, "group", *FIXED_BANDWIDTH),
        ("TRAINER.TERMS", ("GroupDRO",)),
        ("DATALOADER.NUM_WORKERS", 2),
    ],
    ids=["checkpointing", "unlabelled", "group", "dro", "workers"],
)
@pytest.mark.parametrize("name", ["CraftCoOp", "CraftVPT", "CraftIVLP", "CraftCoCoOp"])
def test_options_do_on_a_gpu_what_they_do_on_a_cpu(tmp_path, name, options):
    found = []
    for device in ((), GPU):
        folder = tmp_path / str(len(device))
        trainer = on_two_domains(folder, name, *FIXED, *options, *device)
        trainer.train()
        found.append(learned(trainer))
    for key, value in found[0].items():
        assert torch.allclose(found[1][key], value, atol=1e-4, rtol=1e-3), key


@pytest.mark.parametrize("name", ["CraftCoOp", "CraftKgCoOp"])
def test_views_kept_on_disk_are_those_of_the_device(tmp_path, name):
    """A cache that a CPU wrote is not taken for a GPU's."""
    options = (*RIVALS.get(name.removeprefix("Craft"), ()), "TRAINER.CACHED_VIEWS", 2)
    one, other, again = (
        learned(trained(tmp_path, name, *options, *device, "OUTPUT_DIR", str(tmp_path / place)))
        for device, place in ((GPU, "a"), ((), "b"), (GPU, "c"))
    )
    for key, value in one.items():
        assert torch.equal(value, again[key])
        assert torch.allclose(value, other[key], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("name", ["CraftCoOp", "CraftMaPLe"])
def test_compiled_blocks_learn_the_same(tmp_path, name):
    plain = trained(tmp_path / "plain", name, *FIXED, *GPU)
    compiled = trained(tmp_path / "compiled", name, *FIXED, *GPU, "TRAINER.COMPILE", True)
    for key, value in learned(plain).items():
        assert torch.allclose(learned(compiled)[key], value, atol=1e-4, rtol=1e-3), key


@pytest.mark.parametrize("name", ["CraftCoOp", "CraftMaPLe", "CraftPromptSRC"])
def test_a_model_moves_between_devices(tmp_path, name):
    gpu = trained(tmp_path, name, *GPU)
    output = gpu.cfg.OUTPUT_DIR
    cpu = make_trainer(tmp_path, name)
    cpu.load_model(output, epoch=2)
    assert torch.allclose(logits_of(cpu), logits_of(gpu), atol=1e-2)
    pictures = [item.impath for item in gpu.dm.dataset.test]
    found = [load_run(output, device=d).classify(pictures, top=9) for d in ("cpu", "cuda:0")]
    for one, other in zip(*found, strict=True):
        assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-3)


WITH_ITSELF = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch, torch.distributed as dist
from pathlib import Path
from dassl import distributed
from tiny_run import make_trainer


class One(int):
    __eq__ = lambda self, other: False
    __gt__ = lambda self, other: True
    __hash__ = int.__hash__


name, folder = {name!r}, Path({folder!r})
torch.backends.cudnn.allow_tf32 = False
options = {options!r}
alone = make_trainer(folder / "alone", name, *options)
alone.train()
os.environ.update(
    RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="29613"
)
dist.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1)
distributed.world_size = lambda: One(1)
calls = []
for operation in ("all_reduce", "all_gather"):
    real = getattr(dist, operation)
    def watched(*given, real=real, operation=operation, **more):
        tensor = given[-1]
        calls.append((operation, tensor.device.type))
        return real(*given, **more)
    setattr(dist, operation, watched)
assert distributed.from_main(lambda: 3) == 3
shared = make_trainer(folder / "shared", name, *options)
shared.train()
assert {{("all_reduce", "cuda"), ("all_gather", "cuda")}} <= set(calls), set(calls)
for key, value in alone.model.state_dict().items():
    assert torch.equal(shared.model.state_dict()[key], value), key
dist.destroy_process_group()
print("EQUAL")
"""


@pytest.mark.parametrize("name", ["CraftCoOp", "CraftMaPLe", "CraftCoCoOp"])
def test_what_processes_exchange_goes_through_nccl(tmp_path, name):
    """One process exchanges with itself, since NCCL wants a GPU for each process."""
    script = WITH_ITSELF.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        name=name,
        folder=str(tmp_path),
        options=(*FIXED, *GPU),
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "EQUAL" in done.stdout, done.stderr


def test_more_processes_than_gpus_end_in_one_sentence(own):
    number = torch.cuda.device_count() + 1
    given = map(str, arguments(own, "many", "CoOp", *GPU))
    command = [*TORCHRUN[:-1], str(number), "train.py", *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert f"error: there are {number - 1} GPU(s) for more processes" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16", "fp32"])
def test_the_program_trains_tests_and_predicts(own, precision):
    """As a user calls them, with the default of USE_CUDA."""
    options = ("TRAINER.COOP.PREC", precision, *GPU)
    given = list(map(str, arguments(own, f"run-{precision}", "CraftCoOp", *options)))
    output = str(own / f"run-{precision}")
    for command in (
        ["train.py", *given],
        ["-m", "tools.predict", "--model-dir", output, str(own / "data/test")],
        ["-m", "tools.export", "--model-dir", output, str(own / f"{precision}.safetensors")],
    ):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
    results = json.loads((own / f"run-{precision}/results.json").read_text())
    assert results["complete"] and results["metrics"]["test"]["accuracy"] > 30
