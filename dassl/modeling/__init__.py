"""Backbones and heads of SimpleNet: what torchvision has, plus what is registered here."""

from dassl.modeling.build import BACKBONE_REGISTRY, HEAD_REGISTRY, build_backbone, build_head

__all__ = ["BACKBONE_REGISTRY", "HEAD_REGISTRY", "build_backbone", "build_head"]
