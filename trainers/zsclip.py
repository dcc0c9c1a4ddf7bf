"""Zero-shot CLIP: nothing learned, one hand-written template (Radford et al., ICML 2021, arXiv 2103.00020)."""

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Compares images with the data set's first template, filled with each class name, in fp32."""

    def build_model(self) -> None:
        self.build_backbone()

    def build_prompts(self) -> nn.Module:
        raise NotImplementedError("ZeroshotCLIP learns nothing")

    def text_features(self) -> Tensor:
        return self.backbone.encode_texts(self.class_texts())

    def train(self) -> None:
        """There is nothing to train: tests instead, so that it can stand wherever a trainer can."""
        print("ZeroshotCLIP learns nothing: testing it")
        self.test()
