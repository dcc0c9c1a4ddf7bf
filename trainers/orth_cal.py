"""Orthogonal calibration: zero-shot CLIP whose class texts lose the directions of attributes.

Chuang et al., "Debiasing vision-language models via biased prompts", arXiv 2302.00070.
"""

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import unit
from trainers.errors import UserError
from trainers.model import filled
from trainers.options import rules
from trainers.zsclip import ZeroshotCLIP, ZeroshotModel

# Of an attribute, and behind a class text, where the data set has none (`attribute_texts`).
ATTRIBUTE_TEXTS = ("This is a picture of a {} background.", "with {} background.")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.ORTH_CAL."""
    rules.declare(
        cfg,
        "TRAINER.ORTH_CAL",
        {
            "ATTRIBUTES": rules.key(
                (),
                rules.several(rules.text(empty=False), "give two or more words"),
                "Spurious attributes in words; empty: the names of the data set's domains.",
            ),
            "ATTRIBUTE_TEXT": rules.key(
                "",
                rules.template(),
                "Text of an attribute, with {} for it; empty: the data set's.",
            ),
            "PAIR_TEXT": rules.key(
                "",
                rules.template(),
                "What stands behind a class text, with {} for an attribute; empty: the data set's.",
            ),
            "LAMBDA": rules.key(
                1000.0,
                rules.number(0),
                "Weight of the pairs of one class with two attributes, whose texts are to agree.",
            ),
        },
    )


def projection(attributes: Tensor, pairs: Tensor, weight: float) -> Tensor:
    """(D, D), by which class texts are multiplied: the paper's closed form.

    attributes (A, D): texts of the spurious attributes, whose span is taken out. pairs (K, A, D):
    texts of each class with each attribute; those of one class are pulled together.
    """
    identity = torch.eye(attributes.shape[1], dtype=attributes.dtype, device=attributes.device)
    basis = torch.linalg.qr(attributes.t())[0]
    out = identity - basis @ basis.t()
    count = attributes.shape[0]
    first, second = torch.triu_indices(count, count, 1, device=attributes.device)
    gaps = (pairs[:, first] - pairs[:, second]).flatten(0, 1)
    return out @ torch.linalg.inv(identity + weight * gaps.t() @ gaps / len(gaps))


class OrthCalModel(ZeroshotModel):
    """Zero-shot CLIP with projected class texts."""

    def text_features(self) -> Tensor:
        options = self.options
        attributes = list(options.ATTRIBUTES)
        with torch.autocast(self.device.type, enabled=False):
            words = self.backbone.encode_texts(filled([options.ATTRIBUTE_TEXT], attributes))
            behind = filled([options.PAIR_TEXT], attributes)
            texts = [
                f"{text.rstrip().rstrip('.')} {part}"
                for text in self.class_texts()
                for part in behind
            ]
            pairs = self.backbone.encode_texts(texts).unflatten(0, (-1, len(attributes)))
            matrix = projection(words.double(), pairs.double(), options.LAMBDA)
            return unit((self.zero_shot_texts.double() @ matrix.t()).float())


@TRAINER_REGISTRY.register()
class OrthCal(ZeroshotCLIP):
    """Tests an `OrthCalModel`; it sees the names of the groups' attributes, and no group label."""

    structure = OrthCalModel
    options = "ORTH_CAL"

    @classmethod
    def model_options(cls, cfg: CfgNode) -> CfgNode:
        """With the names of the data set's domains, if the options name no attributes.

        Raises UserError if fewer than two are known.
        """
        options = cfg.TRAINER.ORTH_CAL.clone()
        options.defrost()
        name = cfg.DATASET.NAME
        data = DATASET_REGISTRY.get(name) if name in DATASET_REGISTRY.registered_names() else None
        known = tuple(options.ATTRIBUTES or getattr(data, "domain_names", ()))
        if len(set(known)) < 2:
            raise UserError(
                f"OrthCal needs two attributes or more, and {name} names {len(set(known))}: set "
                "TRAINER.ORTH_CAL.ATTRIBUTES, such as \"('land', 'water')\""
            )
        options.ATTRIBUTES = known
        own = getattr(data, "attribute_texts", ATTRIBUTE_TEXTS)
        options.ATTRIBUTE_TEXT = options.ATTRIBUTE_TEXT or own[0]
        options.PAIR_TEXT = options.PAIR_TEXT or own[1]
        return options
