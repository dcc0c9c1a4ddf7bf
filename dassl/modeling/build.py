"""Backbones are modules with `out_features` that map images (B, 3, H, W) to features (B,
out_features).
"""

from collections.abc import Sequence

import torchvision
from torch import nn

from dassl.utils import Registry, check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")


def build_backbone(name: str, pretrained: bool = True, **kwargs) -> nn.Module:
    """A registered backbone, else a torchvision classifier without its last layer.

    UserError for an unknown name.
    """
    if name in BACKBONE_REGISTRY:
        return BACKBONE_REGISTRY.get(name)(pretrained=pretrained, **kwargs)
    known = torchvision.models.list_models(module=torchvision.models)
    check_availability(name, BACKBONE_REGISTRY.registered_names() + known, "backbone")
    model = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
    path, last = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, nn.Identity())
    model.out_features = last.in_features
    return model


@HEAD_REGISTRY.register()
def mlp(
    in_features: int,
    hidden_layers: Sequence[int] | int = (),
    activation: str = "relu",
    bn: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """Linear, batch norm, activation, dropout per hidden layer; the result has `out_features`."""
    sizes = [in_features, *([hidden_layers] if isinstance(hidden_layers, int) else hidden_layers)]
    activations = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    check_availability(activation, list(activations), "activation")
    layers: list[nn.Module] = []
    for inside, outside in zip(sizes, sizes[1:], strict=False):
        layers += (
            [nn.Linear(inside, outside)]
            + [nn.BatchNorm1d(outside)] * bn
            + [activations[activation]()]
        )
        layers += [nn.Dropout(dropout)] * (dropout > 0)
    head = nn.Sequential(*layers)
    head.out_features = sizes[-1]
    return head


def build_head(name: str, **kwargs) -> nn.Module:
    """A registered head. UserError for an unknown name."""
    return HEAD_REGISTRY.get(name)(**kwargs)
