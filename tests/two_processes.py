"""Training runs whose outcome a test compares between one process and two."""

import multiprocessing
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from test_domains import MMD, trainer_of
from test_engine import UpstreamStyle
from tiny_run import train_one_epoch
from torch import nn

import train
from dassl import distributed
from dassl.data import DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.sharing import share
from dassl.utils import UserError
from trainers.coop import CoOp

NAMES = ("CraftCoOp", "CraftMaPLe", "CraftPromptSRC", "CraftCoCoOp")
FIXED = ("INPUT.TRANSFORMS", ("center_crop", "normalize"))
ODD = (
    "DATALOADER.TRAIN_X.BATCH_SIZE",
    5,
)  # of 12 images: 5, 5, 2; shares of 3 and 2, 3 and 2, 1 and 1
WEIGHT = ("TRAINER.CRAFT.LAMBDA_MMD", 0.5)
SLOW = ("OPTIM.LR", 0.005)
# A median bandwidth would make the discrepancy of two groups of one image a constant, whose
# gradient is rounding.
FIXED_BANDWIDTH = ("TRAINER.CRAFT.MMD.BANDWIDTH", "fixed", "TRAINER.CRAFT.MMD.SIGMAS", [0.05])
SAMPLES = {
    "alone": (NAMES, ()),
    "unlabelled": (NAMES[1:3], (*MMD, "unlabelled", *WEIGHT)),
    "group": (NAMES[0::3], (*MMD, "group", *WEIGHT, *FIXED_BANDWIDTH)),
}  # every structure, and every sample for MMD with prompts of texts alone, of images, and of both
BEST = (
    "TEST.FINAL_MODEL",
    "best_val",
    "TEST.EVALUATOR",
    "GroupClassification",
    "TEST.SELECT_BY",
    "worst_group_accuracy",
)
KEYS = ("TRAINER.TIP_ADAPTER.PREC", "fp32", "TRAINER.TIP_ADAPTER.VIEWS", 2)
LAYER = ("TRAINER.DFR.PREC", "fp32", "TRAINER.DFR.PART", "train")
CASES = {
    f"{name}-{kind}": (name, (*FIXED, *ODD, *SLOW, *options))
    for kind, (names, options) in SAMPLES.items()
    for name in names
} | {
    "best": ("CraftMaPLe", (*FIXED, *ODD, *SLOW, *BEST)),
    "template": (
        "CraftMaPLe",
        (
            *FIXED,
            *ODD,
            *SLOW,
            "TRAINER.CRAFT.TEXT_SAMPLES",
            "template",
            "DATALOADER.TRAIN_X.SAMPLER",
            "BalancedGroupSampler",
            "DATALOADER.TRAIN_X.BATCH_SIZE",
            8,
        ),
    ),
    "scaled": (
        "CraftMaPLe",
        (*FIXED, *ODD, *SLOW),
    ),  # with a scaler of gradients, as PREC amp has on a GPU
    "workers": ("CraftCoOp", (*FIXED, *ODD, *SLOW, "DATALOADER.NUM_WORKERS", 1)),
    "prograd": ("ProGrad", (*FIXED, *ODD, *SLOW, "TRAINER.PROGRAD.PREC", "fp32")),
    "prograd-scaled": ("ProGrad", (*FIXED, *ODD, *SLOW, "TRAINER.PROGRAD.PREC", "fp32")),
    "probe": ("LinearProbe", (*FIXED, *ODD, *SLOW, "TRAINER.LINEAR_PROBE.PREC", "fp32")),
    "cache": ("TipAdapter", (*FIXED, *ODD, *SLOW, *KEYS, "TRAINER.TIP_ADAPTER.FINE_TUNE", True)),
    "dro": ("CraftMaPLe", (*FIXED, *ODD, *SLOW, "TRAINER.TERMS", ("GroupDRO",))),
    "views": ("CraftVPT", ODD),  # augmented
    "upstream": ("UpstreamStyle", (*FIXED, "OPTIM.LR", 0.01)),  # batches of 6: equal shares
}


def tiny(folder: Path, output: str, name: str, *options):
    """A trainer whose data and weights are in `folder`."""
    return trainer_of(folder, name, *options, "OUTPUT_DIR", str(folder / output))


def outcome(folder: Path, output: str, name: str) -> dict:
    """Losses, images of each step, parameters, metrics and what is drawn from each generator in the
    end.
    """
    trainer = tiny(folder, f"{output}/{name}", CASES[name][0], *CASES[name][1])
    if name.endswith("scaled"):
        trainer.scaler = torch.amp.GradScaler("cpu")
    steps, images, results, pixels = [], [], [], []
    step, test = trainer.forward_backward, trainer.test

    def watched(*batches):
        images.append([batch["impath"] for batch in batches])
        pixels.append(batches[0]["img"])
        steps.append(step(*batches))
        return steps[-1]

    def tested(split=None):
        results.append(
            (
                split,
                test(split),
                trainer.evaluator.evaluate(),
                getattr(trainer.evaluator, "groups", {}),
            )
        )
        return results[-1][1]

    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.forward_backward, trainer.test = watched, tested
    trainer.train()
    return {
        "steps": steps,
        "images": images,
        "pixels": pixels,
        "results": results,
        "before": before,
        "model": trainer.model.state_dict(),
        "draws": (random.random(), float(np.random.rand()), float(torch.rand(1))),
    }


# Pieces


def function(whole: torch.Tensor) -> torch.Tensor:
    """Of rows that all act on each other."""
    return (
        ((whole @ whole.t()).softmax(1) * torch.arange(float(len(whole)), dtype=whole.dtype))
        .sum()
        .sin()
    )


def gathering() -> dict:
    """Whole and gradient of shares of sizes that differ; each process's loss has its own factor."""
    number, found = distributed.rank(), {}
    for rows in (1, 2, 5, 6):
        whole = torch.randn(
            rows, 3, 2, dtype=torch.double, generator=torch.Generator().manual_seed(rows)
        )
        own = whole[number::2].clone().requires_grad_()
        gathered = distributed.gather(own)
        ((1 + number) * function(gathered.flatten(1))).backward()
        labels = distributed.gather(torch.arange(rows)[number::2])
        found[rows] = (whole, gathered.detach(), own.grad, labels)
    return found


def averaging() -> list:
    """Gradients after averaging: two that both have, one that only the second process has, one that
    nobody has.
    """
    a, b, c, d = (
        nn.Parameter(torch.zeros(2, 3, dtype=dtype))
        for dtype in (torch.float, torch.double, torch.float, torch.float)
    )
    number = distributed.rank()
    a.grad, b.grad = torch.full_like(a, 1.0 + number), torch.full_like(b, 10.0 * number)
    if number:
        c.grad = torch.full_like(c, 8.0)
    distributed.average_gradients([a, b, c, d, a])
    return [parameter.grad for parameter in (a, b, c, d)]


class Draws(DatasetWrapper):
    def __getitem__(self, index):
        return {
            "draw": torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(1))])
        }


def streams(folder: Path) -> list:
    """What the workers of all processes draw."""
    trainer = tiny(folder, "streams", "CoOp", "DATALOADER.NUM_WORKERS", 2)
    items = trainer.dm.dataset.train_x[:1] * 8
    distributed.separate_random_states()
    loader = share(
        build_data_loader(trainer.cfg, "SequentialSampler", items, 2, dataset_wrapper=Draws),
        "TRAIN_X",
    )
    return [
        draw
        for draws in distributed.gather_objects([batch["draw"] for batch in loader])
        for draw in draws
    ]


def resumed(folder: Path) -> list:
    """Parameters of an augmented run, and of one that was stopped after one of three epochs."""
    options = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, *MMD, "unlabelled", *SLOW)
    whole = tiny(folder, "whole", "CraftPromptSRC", *options)
    whole.train()
    half = tiny(folder, "cut", "CraftPromptSRC", *options)
    train_one_epoch(half)
    rest = tiny(folder, "cut", "CraftPromptSRC", *options)
    rest.train()
    return [rest.start_epoch, whole.model.state_dict(), rest.model.state_dict()]


def fitted(folder: Path) -> list[dict]:
    """What is computed before training, from all images: DFR's layer, Tip-Adapter's keys of
    augmented images.
    """
    built = (
        tiny(folder, "dfr", "DFR", *LAYER, "OPTIM.MAX_EPOCH", 1),
        tiny(folder, "keys", "TipAdapter", *KEYS, "OPTIM.MAX_EPOCH", 1),
    )
    return [trainer.clip.prompts.state_dict() for trainer in built]


def refused(folder: Path) -> list[str]:
    """The sentences of runs with a batch that is too small for two processes; no step is made."""
    said = []
    for options in (
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 11),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 1),
        (
            *MMD,
            "unlabelled",
            "DATALOADER.TRAIN_U.SAME_AS_X",
            False,
            "DATALOADER.TRAIN_U.BATCH_SIZE",
            11,
        ),
    ):
        trainer = tiny(folder, "refused", "CraftCoOp", *options)
        trainer.forward_backward = lambda *_: said.append("a step was made")
        try:
            trainer.train()
        except UserError as error:
            said.append(str(error))
    return said


def all_of_it(folder: Path) -> int:
    """Everything above, written to FOLDER/rank0.pt and rank1.pt."""
    assert UpstreamStyle
    distributed.start()
    number, found = distributed.rank(), {}
    found["gathering"], found["averaging"] = gathering(), averaging()
    found["main"] = [
        distributed.from_main(lambda: number),
        distributed.in_turn([torch.tensor(number)] if number else None),
    ]
    for name in CASES:
        found[name] = outcome(folder, "two", name)
    for work in (streams, resumed, refused, fitted):
        found[work.__name__] = work(folder)
    torch.save(found, folder / f"rank{number}.pt")
    distributed.stop()
    return 0


# train.py


def train_program(arguments: list[str]) -> int:
    """train.py's exit code."""
    return train.main(train.parse_args(arguments))


def train_reporting(arguments: list[str]) -> int:
    """train.py under a torchrun that takes reports; the first word is where, but for the rank."""
    report, *rest = arguments
    os.environ["TORCHELASTIC_ERROR_FILE"] = f"{report}{os.environ['RANK']}.json"
    return train_program(rest)


def train_other_seed(arguments: list[str]) -> int:
    """train.py, with another seed in each process."""
    args = train.parse_args(arguments)
    args.seed += int(os.environ["RANK"])
    return train.main(args)


def train_dying(arguments: list[str]) -> int:
    """train.py, whose second process is killed in the second epoch."""
    step = CoOp.forward_backward

    def dying(self, batch):
        if distributed.rank() and self.epoch == 1 and self.batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    CoOp.forward_backward = dying
    return train_program(arguments)


def ranked(rank: int, port: int, errors: str, action: Callable[..., int], *arguments) -> None:
    """`action` with what torchrun tells its process `rank` of two; stderr goes to a file."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    target = os.open(errors, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    distributed.SILENT_S = 0.1  # here no torchrun ends it meanwhile
    multiprocessing.set_start_method("fork", force=True)  # a loader's workers, as elsewhere
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.exit(action(*arguments))
