"""PromptSRC: IVLP kept close to frozen CLIP (Khattak et al., ICCV 2023, arXiv 2307.06948)."""

import logging
import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.errors import UserError
from trainers.ivlp import IVLP, IVLPModel, ivlp_options
from trainers.model import PromptedCLIP
from trainers.options import rules
from trainers.parallel import gather
from trainers.step import Features, Step
from trainers.templates import SIXTY

log = logging.getLogger(__name__)


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.PROMPTSRC, with the published names and defaults.

    The published files hold whole numbers. yacs alone merges these into whole numbers only; this
    project's configuration also takes fractions, and whole numbers for them.
    """
    kind = int if type(cfg) is CfgNode else float
    rules.declare(
        cfg,
        "TRAINER.PROMPTSRC",
        {
            **ivlp_options(4),
            "TEXT_LOSS_WEIGHT": rules.key(
                kind(25),
                rules.number(0),
                "Weight of the L1 distance between text features and frozen CLIP's.",
            ),
            "IMAGE_LOSS_WEIGHT": rules.key(
                kind(10),
                rules.number(0),
                "Weight of the L1 distance between image features and frozen CLIP's.",
            ),
            "GPA_MEAN": rules.key(
                kind(15),
                rules.number(-1e6, 1e6),
                "Epoch whose prompts weigh most in the average over epochs.",
            ),
            "GPA_STD": rules.key(
                kind(1),
                rules.positive("set it to a positive number of epochs"),
                "Standard deviation of these weights, in epochs.",
            ),
        },
    )


def epoch_weights(epochs: int, mean: float, std: float) -> list[float]:
    """Gaussian weights of the epochs 1..`epochs`, which sum to 1.

    The paper's prompt aggregation, equation 6.
    """
    exponents = [-0.5 * ((epoch - mean) / std) ** 2 for epoch in range(1, epochs + 1)]
    # less the maximum, so that nothing underflows if the mean is far off
    weights = [math.exp(exponent - max(exponents)) for exponent in exponents]
    return [weight / sum(weights) for weight in weights]


class PromptSRCModel(IVLPModel):
    """IVLP with self-consistency terms, which keep features and logits close to frozen CLIP's."""

    @cached_property
    def frozen_text(self) -> Tensor:
        """(C, D), the mean of 60 templates, as published not of unit vectors.

        Made when training asks for it, since 60 templates of every class take a while.
        """
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.ensemble_features(SIXTY, at_length_1=False)

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        options, features = self.options, step.features
        with self.autocast():
            image = gather(PromptedCLIP.image_features(self, step.images))  # frozen CLIP's
            frozen = Features(image, self.frozen_text, features.scale)
        log_p, log_q = features.logits().log_softmax(1), frozen.logits().log_softmax(1)
        return super().loss_terms(step) | {
            "scl_text": options.TEXT_LOSS_WEIGHT * F.l1_loss(features.text, frozen.text),
            "scl_image": options.IMAGE_LOSS_WEIGHT * F.l1_loss(features.image, frozen.image),
            # Over all B * C entries, as published, not over the batch as the divergence is defined.
            "scl_logits": F.kl_div(log_p, log_q, reduction="sum", log_target=True) / log_p.numel(),
        }


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """Trains a `PromptSRCModel`, whose final prompts are a Gaussian-weighted average of epochs."""

    structure = PromptSRCModel
    options = "PROMPTSRC"

    def build_model(self) -> None:
        options = self.cfg.TRAINER.PROMPTSRC
        self.gpa_weights = epoch_weights(self.max_epoch, options.GPA_MEAN, options.GPA_STD)
        self.gpa: dict[str, Tensor] = {}
        self.gpa_total = 1.0  # of the weights of the epochs that the average is over
        super().build_model()

    def after_epoch(self) -> None:
        """Add the epoch's prompts to the average, which is the model after the last epoch."""
        if not self.gpa and self.epoch > 0:  # a published checkpoint lacks the average so far
            log.warning(
                f"The average of the prompts starts at epoch {self.epoch + 1}: the checkpoint that "
                "this run continues holds none"
            )
            self.gpa_total = sum(self.gpa_weights[self.epoch :])
            if self.gpa_total == 0:
                raise UserError(
                    "the epochs that are left have no weight in PromptSRC's average of prompts: "
                    "change TRAINER.PROMPTSRC.GPA_MEAN, or test the checkpoint with --model-dir"
                )
        weight = self.gpa_weights[self.epoch] / self.gpa_total
        for name, value in self.model.state_dict().items():
            self.gpa[name] = self.gpa.get(name, torch.zeros_like(value)) + weight * value
        if self.epoch + 1 == self.max_epoch:
            log.info("Using the average of the prompts over the epochs")
            self.model.load_state_dict(self.gpa)
        super().after_epoch()

    def extra_state(self) -> dict:
        return super().extra_state() | {"gpa": dict(self.gpa), "gpa_total": self.gpa_total}

    def load_extra_state(self, state: dict) -> None:
        super().load_extra_state(state)
        self.gpa = {name: value.to(self.device) for name, value in state["gpa"].items()}
        self.gpa_total = state.get("gpa_total", 1.0)
