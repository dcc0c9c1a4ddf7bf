"""Zero-shot CLIP: nothing learned, hand-written templates (Radford et al., ICML 2021, arXiv 2103.00020)."""

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.templates import SEVEN


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
        print(f"{type(self).__name__} learns nothing: testing it")
        self.test()


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Compares images with the mean over CLIP's seven best ImageNet templates and the data set's own."""

    def text_features(self) -> Tensor:
        return self.ensemble_features((*SEVEN, self.template))
