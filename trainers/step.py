"""What a training step hands on: its inputs, and the features that the model made of them."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainers.parallel import gather

if TYPE_CHECKING:
    from trainers.model import PromptedCLIP


@dataclass
class Features:
    """Unit-norm features of a batch in float32, and CLIP's inverse temperature (a scalar).

    image (B, D); text (C, D), or (B, C, D) where every image has its own class texts.
    """

    image: Tensor
    text: Tensor
    scale: Tensor

    def logits(self) -> Tensor:
        """(B, C)."""
        if self.text.dim() == 2:
            return self.scale * self.image @ self.text.t()
        return self.scale * torch.einsum("bd,bcd->bc", self.image, self.text)

    def gathered(self) -> "Features":
        """The features of the whole batch, if several processes have a share of its images each."""
        text = self.text if self.text.dim() == 2 else gather(self.text)
        return replace(self, image=gather(self.image), text=text)

    def text_of(self, labels: Tensor) -> Tensor:
        """(B, D), the text feature of each image's own class; labels (B,)."""
        if self.text.dim() == 2:
            return self.text[labels]
        return self.text[torch.arange(len(labels), device=labels.device), labels]


@dataclass
class Step:
    """A training step: its inputs and features, from which every loss term is computed.

    images (b, 3, R, R), or their frozen features (b, D), are this process's share of the batch, and
    so are `unlabelled` images of the target domain, None in a step without. labels (B,), domains
    (B,), None unless a term asks for them, and `features` are of the whole batch. What further
    terms compare is computed when the first term asks for it, and kept for the others.
    """

    model: "PromptedCLIP"
    images: Tensor
    labels: Tensor
    features: Features
    domains: Tensor | None = None
    unlabelled: Tensor | None = None

    @cached_property
    def prompt_text(self) -> Tensor:
        """(B, D), the text feature of each image's own class."""
        return self.features.text_of(self.labels)

    @cached_property
    def template_text(self) -> Tensor:
        """(B, D), as `prompt_text`, of the data set's template without learned context."""
        return self.model.template_features(self.labels)

    @cached_property
    def unlabelled_features(self) -> Features:
        """The features of the unlabelled images of all processes. ValueError in a step without."""
        if self.unlabelled is None:
            raise ValueError("this step has no unlabelled images: set `unlabelled` in the term")
        return self.model.more_features(self.unlabelled, self.features).gathered()
