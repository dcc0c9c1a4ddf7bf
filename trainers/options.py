"""How trainers declare options: a default and what a key may hold, once (`dassl.config.rules`).

Upstream Dassl has no rules: there only the defaults are left.
"""

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

import dassl.config


class _DefaultsOnly:
    """Stands for the module `dassl.config.rules` where it is missing: nothing is checked."""

    def __getattr__(self, name: str):
        return lambda *_, **__: None

    def key(self, default: Any, *_, **__) -> Any:
        return default

    def declare(self, cfg: CfgNode, node: str, options: Mapping) -> None:
        for part in node.split("."):
            cfg = cfg.setdefault(part, CfgNode())
        for name, value in options.items():
            cfg[name] = CfgNode(value) if isinstance(value, Mapping) else value


rules = getattr(dassl.config, "rules", None) or _DefaultsOnly()
PRECISION_HELP = (
    "Precision of the frozen encoders: fp16 is half precision, on a GPU only; bf16 is bfloat16; "
    "amp is mixed precision. Learned parameters, layer norms and losses are fp32."
)
