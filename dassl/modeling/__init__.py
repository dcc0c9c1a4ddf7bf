"""Backbones and heads of SimpleNet: torchvision's, and those that are registered here."""

from dassl.modeling.build import BACKBONE_REGISTRY, HEAD_REGISTRY, build_backbone, build_head

__all__ = ["BACKBONE_REGISTRY", "HEAD_REGISTRY", "build_backbone", "build_head"]
