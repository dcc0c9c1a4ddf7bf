"""ProGrad: CoOp whose gradient never turns against that of frozen CLIP's predictions.

Zhu et al., ICCV 2023, arXiv 2205.14865.
"""

import logging

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS
from trainers.base import PromptTrainer
from trainers.coop import CoOpModel, PromptLearner
from trainers.errors import UserError
from trainers.options import PRECISION_HELP, rules
from trainers.parallel import average_gradients
from trainers.step import Features, Step

log = logging.getLogger(__name__)

# Templates that end with the class name, where the published code has others than CoOp's.
TEMPLATES = {
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "Food101": "a type of food, a photo of {}.",
}


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.PROGRAD. Published files have its keys under TRAINER.COOP and LOSS."""
    rules.declare(
        cfg,
        "TRAINER.PROGRAD",
        {
            "N_CTX": rules.key(16, rules.whole(1), "Number of context vectors."),
            "CTX_INIT": rules.key(
                "template",
                help="Words of the last context vectors, those before them start at zero: template "
                "takes the words of the data set's template; empty starts all at random.",
            ),
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "T": rules.key(
                1.0,
                rules.positive("set it to a positive number"),
                "Temperature of the divergence from frozen CLIP's predictions.",
            ),
            "LAMBDA": rules.key(
                1.0,
                rules.number(0),
                "Share of the opposing part that is taken out of the gradient.",
            ),
        },
    )


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² times the mean cross entropy of softmax(teacher / T) and softmax(logits / T), (B, C) each.

    Its gradient is that of the Kullback-Leibler divergence.
    """
    targets = (teacher / temperature).softmax(1)
    crossed = -(targets * (logits / temperature).log_softmax(1)).sum(1)
    return temperature**2 * crossed.mean()


def without_conflict(gradient: Tensor, guide: Tensor, share: float) -> Tensor:
    """The gradient, less `share` of its part along `guide` if the two point apart.

    Tensors of one shape, each taken as one vector.
    """
    along = (gradient * guide).sum()
    if along >= 0:
        return gradient
    return gradient - share * along / guide.square().sum() * guide


class ProGradModel(CoOpModel):
    """Learns CoOp's context, with the class name at its end."""

    def build_prompts(self) -> PromptLearner:
        n_ctx, words = self.options.N_CTX, self.start_words()
        padded = " ".join(["X"] * (n_ctx - len(words)) + words) if words else ""
        prompts = PromptLearner(self.backbone, self.classnames, n_ctx, padded)
        if words:
            with torch.no_grad():
                prompts.ctx[: n_ctx - len(words)] = 0
        return prompts

    def start_words(self) -> list[str]:
        """Words of the last context vectors; none for a random start.

        Raises UserError if they are more than the context vectors.
        """
        init, n_ctx = self.options.CTX_INIT, self.options.N_CTX
        if init == "template":
            before, _, behind = self.templates[0].partition("{}")
            if behind.strip(" ."):
                log.warning(
                    f"The words behind the name in '{self.templates[0]}' are not in ProGrad's "
                    "context, which ends with the name"
                )
            init = before
        words = init.replace("_", " ").split()
        if len(words) > n_ctx:
            raise UserError(
                f"TRAINER.PROGRAD.CTX_INIT has {len(words)} words ('{' '.join(words)}') for "
                f"{n_ctx} context vectors: raise TRAINER.PROGRAD.N_CTX, or use fewer words"
            )
        return words

    def guide(self, step: Step) -> Tensor:
        """The divergence from frozen CLIP's predictions, whose gradient guides the step."""
        features = step.features
        frozen = Features(features.image, self.zero_shot_texts, features.scale)
        return distillation(features.logits(), frozen.logits(), self.options.T)


@TRAINER_REGISTRY.register()
class ProGrad(PromptTrainer):
    """Trains a `ProGradModel`; what is projected is the gradient of the sum of all loss terms."""

    clip: ProGradModel
    structure = ProGradModel
    options = "PROGRAD"
    published_templates = TEMPLATES

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        self._guide = self.clip.guide(step)
        return super().loss_terms(step)

    def forward_backward(self, batch: dict, batch_u: dict | None = None) -> dict[str, float]:
        summary = super().forward_backward(batch, batch_u)
        return summary | {"guide": self._guide.item()}

    def _update(self, loss: Tensor) -> None:
        """Backward of the guide, then of the loss; a step along the gradient without conflict."""
        scaled = self.scaler.scale if self.scaler else lambda value: value
        self.model_zero_grad()
        scaled(self._guide).backward(retain_graph=True)
        average_gradients(self.model.parameters())
        guides = {
            name: None if p.grad is None else p.grad.clone()
            for name, p in self.model.named_parameters()
        }
        self.model_zero_grad()
        self.detect_anomaly(loss)
        scaled(loss).backward()
        average_gradients(self.model.parameters())
        for name, parameter in self.model.named_parameters():
            guide = guides[name]
            if parameter.grad is not None and guide is not None:
                share = self.clip.options.LAMBDA
                parameter.grad = without_conflict(parameter.grad, guide, share)
        if self.scaler is None:
            self.model_update()
        else:
            self.scaled_step()
