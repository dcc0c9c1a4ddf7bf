"""Checkpoints as upstream's trainers save them: torch's own objects, made and stepped here.

Upstream gives the optimizer every parameter of the model, frozen CLIP included, and saves the state
of a warm-up scheduler that holds the main scheduler, which holds the optimizer.
"""

from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
}
SCHEDULERS = {
    "cosine": lambda o: CosineAnnealingLR(o, 10.0),
    "single_step": lambda o: StepLR(o, 2, 0.1),
    "multi_step": lambda o: MultiStepLR(o, [2, 4], 0.1),
}


class WarmUp(LRScheduler):
    """Rates of 1e-5 until epoch `warmup_epoch`, then those of `successor`."""

    def __init__(self, optimizer, successor, warmup_epoch=1, cons_lr=1e-5):
        self.successor, self.warmup_epoch, self.cons_lr = successor, warmup_epoch, cons_lr
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.cons_lr for _ in self.base_lrs]

    def step(self, epoch=None):
        if self.last_epoch < self.warmup_epoch:
            return super().step()
        self.successor.step()
        self._last_lr = self.successor.get_last_lr()


def nested(parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]) -> nn.Module:
    """A module whose state dict has these dotted names."""
    root = nn.Module()
    for names, put in ((parameters, "register_parameter"), (buffers, "register_buffer")):
        for name, value in names.items():
            node, (*path, leaf) = root, name.split(".")
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node._modules[part]
            getattr(node, put)(leaf, nn.Parameter(value.clone()) if put[9] == "p" else value)
    return root


class Published:
    """A training of upstream's kind, after `steps` epochs of one step: `save` writes its
    checkpoint.
    """

    def __init__(
        self,
        learned: dict[str, torch.Tensor],
        frozen=(),
        buffers=(),
        optimizer="sgd",
        scheduler="cosine",
        warm_up=True,
        steps=3,
    ):
        self.model = nested({**dict(frozen), **learned}, dict(buffers))
        generator = torch.Generator().manual_seed(5)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in learned)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.scheduler = WarmUp(self.optimizer, self.scheduler) if warm_up else self.scheduler
        for _ in range(steps):
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            self.optimizer.step()
            self.scheduler.step()
        self.steps = steps

    def save(self, folder: Path, name: str, **more) -> Path:
        """Write `folder`/<name>/model.pth.tar-<epoch>, its text file and the best model."""
        state = {
            "state_dict": self.model.state_dict(),
            "epoch": self.steps,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "val_result": None,
            **more,
        }
        home = folder / name
        home.mkdir(parents=True, exist_ok=True)
        for file in (f"model.pth.tar-{self.steps}", "model-best.pth.tar"):
            torch.save(state, home / file)
        (home / "checkpoint").write_text(f"model.pth.tar-{self.steps}\n")
        return folder
