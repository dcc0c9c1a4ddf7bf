"""The models of a trainer, by name, with the optimiser and the schedule of each."""

from collections import OrderedDict
from typing import Any

from torch import nn

from dassl.utils import tolist_if_not


class Models:
    """Registered models: only these are saved, updated and put into train or eval mode."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Any] = OrderedDict()  # name -> nn.Module, or None
        self._optims: OrderedDict = OrderedDict()
        self._scheds: OrderedDict = OrderedDict()

    def register_model(
        self, name: str = "model", model: nn.Module | None = None, optim=None, sched=None
    ) -> None:
        """Name a model for checkpoints; only registered ones are saved, updated and put into train
        or eval mode.
        """
        if self.__dict__.get("_models") is None:
            raise ValueError("call super().__init__() before register_model()")
        if name in self._models:
            raise ValueError(f"a model named '{name}' is registered already")
        self._models[name], self._optims[name], self._scheds[name] = model, optim, sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """The given names, checked, or all."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        if unknown := [name for name in names if name not in self._models]:
            raise ValueError(
                f"no model named '{unknown[0]}' is registered: there are {', '.join(self._models)}"
            )
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Put models into "train" or "eval" (also "test") mode."""
        if mode not in ("train", "eval", "test"):
            raise ValueError(f"unknown mode '{mode}': train or eval")
        for name in self.get_model_names(names):
            if self._models[name] is not None:
                self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedulers."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """The learning rate of the first model's first parameter group."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        """Clear the gradients of the models with an optimiser."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_update(self, names: str | list[str] | None = None) -> None:
        """A step of the optimisers."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()
