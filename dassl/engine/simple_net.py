"""The network of a trainer that defines none: a backbone with a linear classifier."""

from typing import Any

from torch import Tensor, nn

from dassl.modeling import build_backbone, build_head


class SimpleNet(nn.Module):
    """A backbone, an optional MLP head and a linear classifier; images (B, 3, H, W) -> logits (B,
    classes).
    """

    def __init__(self, cfg, model_cfg, num_classes: int, **kwargs):
        super().__init__()
        backbone: Any = build_backbone(
            model_cfg.BACKBONE.NAME, pretrained=model_cfg.BACKBONE.PRETRAINED, **kwargs
        )
        self.backbone = backbone
        self._fdim: int = backbone.out_features
        self.head: Any = None
        if model_cfg.HEAD.NAME and model_cfg.HEAD.HIDDEN_LAYERS:
            head = model_cfg.HEAD
            self.head = build_head(
                head.NAME,
                in_features=self._fdim,
                hidden_layers=head.HIDDEN_LAYERS,
                activation=head.ACTIVATION,
                bn=head.BN,
                dropout=head.DROPOUT,
            )
            self._fdim = self.head.out_features
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    @property
    def fdim(self) -> int:
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False):
        feature = self.backbone(x)
        if self.head is not None:
            feature = self.head(feature)
        if self.classifier is None:
            return feature
        logits = self.classifier(feature)
        return (logits, feature) if return_feature else logits
