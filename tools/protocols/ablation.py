"""Ablation of CRAFT: a structure as it is, with each term, with both, and with MMD; each as base to new classes."""

from dataclasses import replace

from tools.protocols import base2new
from tools.protocols.base import TESTED, Variable, Variant

STATIC, STOCHASTIC = "TRAINER.CRAFT.LAMBDA_STATIC", "TRAINER.CRAFT.LAMBDA_STOCHASTIC"

PROTOCOL = replace(
    base2new.PROTOCOL,
    name="ablation",
    title="Ablation",
    top="ablation/{study}/base2new/",
    script="ablation.sh",
    variables=(
        Variable(
            "UNLABELLED",
            "target",
            "a shifted data set with the same classes: the variant mmd uses its images without labels",
        ),
    ),
    variants={
        "baseline": Variant(""),
        "static": Variant("default", {STOCHASTIC: 0.0}),
        "stochastic": Variant("default", {STATIC: 0.0}),
        "both": Variant("default"),
        "mmd": Variant("mmd"),
    },
    row=(TESTED, "{structure}", "{study}", "{shots}"),
    baseline="baseline",
    published="",
    rank=70,
)
