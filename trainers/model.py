"""A method is a model: frozen CLIP with the prompts that the method learns.

A structure is a subclass of `PromptedCLIP`. It builds its learnable parameters in `build_prompts`,
and overrides what they change: `text_features`, `image_features`, `deep_text_prompts`,
`loss_terms`. A model needs no data set, loop or optimiser:

    model = CoOpModel(load_backbone("ViT-B/16"), ["cat", "dog"], cfg.TRAINER.COOP)
    probabilities = model(images).softmax(1)
"""

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from trainers.backbone import Backbone, as_read, unit
from trainers.cache import rng_untouched
from trainers.checkpoints import learned_state
from trainers.errors import UserError
from trainers.step import Features, Step

log = logging.getLogger(__name__)

DEFAULT_TEMPLATE = "a photo of a {}."


def filled(templates: Sequence[str], names: Sequence[str]) -> list[str]:
    """Every template filled with every name, the texts of the first template first.

    Names may have braces. Raises UserError for a template without exactly one {}, or with other
    braces.
    """
    for template in templates:
        if not template.count("{}") == template.count("{") == template.count("}") == 1:
            raise UserError(
                f"the template '{template}' needs one {{}} where the class name goes, and no other "
                "braces: correct the data set's templates, or set DATASET.TEMPLATE"
            )
    return [template.replace("{}", name) for template in templates for name in names]


class PromptedCLIP(nn.Module):
    """Frozen CLIP with learned prompts: images (B, 3, R, R) -> logits (B, C).

    backbone: on the device of the model. classnames: in label order; spaces take the place of
    underscores. options: the method's node of the configuration, such as cfg.TRAINER.COOP.
    templates: hand-written texts with {} for the class name; the first one makes `class_texts`. A
    function in their place is called by a method that reads them.

    `prompts` holds all that is learned, under the published names; None for a method that learns
    nothing. Raises UserError for options that do not fit the backbone or the class names.
    """

    prompts: nn.Module | None
    # whether logits are scale * image @ text, so that both features tell all
    compares_features = True

    def __init__(
        self,
        backbone: Backbone,
        classnames: Sequence[str],
        options: CfgNode,
        templates: Sequence[str] | Callable[[], Sequence[str]] = (DEFAULT_TEMPLATE,),
    ):
        super().__init__()
        self.backbone, self.options, self._templates = backbone, options, templates
        self.classnames = [name.replace("_", " ") for name in classnames]
        self.precision = options.get("PREC", "fp32")
        self._template_tokens: Tensor | None = None
        prompts = self.build_prompts()
        self.prompts = None if prompts is None else prompts.to(self.device)

    # What a method overrides

    def build_prompts(self) -> nn.Module | None:
        """The learnable parameters, all that a checkpoint holds; None if there are none."""
        raise NotImplementedError

    def text_features(self) -> Tensor:
        """Unit-norm features (C, D) of the class texts."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """Unit-norm features (B, D) of images (B, 3, R, R); here those of frozen CLIP.

        Cached features (B, D) pass through.
        """
        return images if images.dim() == 2 else self.backbone.encode_images(images)

    def deep_text_prompts(self) -> Sequence[Tensor]:
        """Prompts that the text encoder takes at its deeper layers."""
        return ()

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        """The method's loss terms by name, weights included; the loss is their sum.

        Features and labels of a step are of the whole batch, images are this process's share:
        `gather` what is computed from images.
        """
        return {"cross_entropy": F.cross_entropy(step.features.logits(), step.labels)}

    # Features and logits

    @property
    def device(self) -> torch.device:
        return self.backbone.scale.device

    def autocast(self) -> AbstractContextManager:
        """For the encoders only: similarities and losses are computed in float32.

        With PREC amp: half precision on CUDA, bfloat16 on a CPU.
        """
        low = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, low, enabled=self.precision == "amp")

    def features(self, images: Tensor, text: Tensor | None = None) -> Features:
        """Features of images (B, 3, R, R).

        text: class texts (C, D) that `encode_class_texts` encoded before; None: encode them now.
        """
        with self.autocast():
            text = self.text_features() if text is None else text
            return Features(self.image_features(images), text, self.backbone.scale)

    def more_features(self, images: Tensor, features: Features) -> Features:
        """Features of further images in the step of `features`, whose class texts are taken over.

        NotImplementedError if class texts depend on the image: a structure that overrides
        `features` for that overrides this method, too.
        """
        if features.text.dim() == 3:
            raise NotImplementedError(
                f"{type(self).__name__} has class texts for each image: override more_features"
            )
        return self.features(images, features.text)

    def encode_class_texts(self) -> Tensor | None:
        """Class texts (C, D), without a graph; None if they depend on the image."""
        with torch.no_grad(), self.autocast():
            return self.text_features()

    def logits(self, images: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, C); the arguments are those of `features`."""
        return self.features(images, text).logits()

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images)

    @property
    def images_stay_frozen(self) -> bool:
        """Whether nothing is learned about images: their features are those of frozen CLIP."""
        return type(self).image_features is PromptedCLIP.image_features

    # Texts of the data set

    @property
    def templates(self) -> Sequence[str]:
        return self._templates() if callable(self._templates) else self._templates

    def class_texts(self) -> list[str]:
        """The data set's first template, filled with each class name."""
        templates = self.templates[:1]
        self._warn_of_templates(templates)
        return filled(templates, self.classnames)

    @cached_property
    def zero_shot_texts(self) -> Tensor:
        """Unit-norm features (C, D), float32, that frozen CLIP has for `class_texts`."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.backbone.encode_texts(self.class_texts())

    def _warn_of_templates(self, templates: Sequence[str]) -> None:
        """Name templates with words that CLIP never learned, rather than each text made of them."""
        self.backbone.tokenize([text.replace("{}", "") for text in templates], names=templates)

    def ensemble_features(self, templates: Sequence[str], at_length_1: bool = True) -> Tensor:
        """Unit-norm mean (C, D) over templates of frozen CLIP's text features.

        at_length_1: whether each feature is brought to length 1 before the mean is taken.
        """
        self._warn_of_templates(templates)
        features = self.backbone.encode_texts(filled(templates, self.classnames), at_length_1)
        return unit(features.unflatten(0, (len(templates), -1)).mean(0))

    def template_features(self, labels: Tensor) -> Tensor:
        """Unit-norm features (B, D) of the template text of each label, labels (B,).

        With the deep prompts, but without learned context at the first layer.
        """
        if self._template_tokens is None:
            self._template_tokens = self.backbone.tokenize(self.class_texts()).to(self.device)
            self.backbone.text.check_texts(self._template_tokens, self.deep_text_prompts())
        classes, position = labels.unique(return_inverse=True)
        with self.autocast():
            features = self.backbone.text.encode_tokens(
                self._template_tokens[classes], self.deep_text_prompts()
            )
        return unit(features)[position]

    # Other classes

    def for_classes(self, classnames: Sequence[str]) -> "PromptedCLIP":
        """A model of other classes with what this one learned, on the same backbone.

        The global random states stay as they are. Raises UserError if something was learned for
        each class, and for names that do not fit.
        """
        same = list(map(as_read, classnames)) == list(map(as_read, self.classnames))
        if not same and (learned := self.learned_per_class()):
            named = ", ".join(f"'{name}'" for name in learned)
            raise UserError(
                f"this model learned {named} for each of its classes, which no other class can "
                "use: leave out the other classes, or train a model for them"
            )
        with rng_untouched():
            other = type(self)(self.backbone, classnames, self.options, self._templates)
        if self.prompts is not None and other.prompts is not None:
            state = self.prompts.state_dict()
            other.prompts.load_state_dict(learned_state(other.prompts, state, "this model"))
        return other.train(self.training)

    def learned_per_class(self) -> list[str]:
        """Names of learned tensors whose shapes follow the number of classes.

        Other classes cannot use them. The model is built once more, for one class more; this model
        and the global random states stay as they are.
        """
        if self.prompts is None:
            return []
        names = [*self.classnames, self.classnames[0]]  # a name that fits every structure
        with rng_untouched(), contextlib.redirect_stdout(io.StringIO()):
            larger = type(self)(self.backbone, names, self.options, self._templates).prompts
            assert larger is not None  # as here
        shapes = {name: value.shape for name, value in larger.state_dict().items()}
        return [
            name
            for name, value in self.prompts.state_dict().items()
            if value.shape != shapes.get(name)
        ]

    def check_classes(self, theirs: Sequence[str] | None, path: str) -> None:
        """Raise UserError if the checkpoint `path` learned something for each of other classes.

        theirs: the class names that the checkpoint was trained on, in label order; None if they are
        not known, which a warning says.
        """
        if theirs and list(map(as_read, theirs)) == list(map(as_read, self.classnames)):
            return
        if not (names := ", ".join(f"'{name}'" for name in self.learned_per_class())):
            return
        if not theirs:
            log.warning(
                f"Warning: '{path}' does not tell which classes it was trained on, but {names} was "
                "learned for each of them: the result means something only for the same classes in "
                "the same order"
            )
            return
        raise UserError(
            f"checkpoint '{path}' does not fit: {names} was learned for each class, and "
            f"{_difference(theirs, self.classnames)}; use it for the classes it was trained on, in "
            "that order"
        )


def _difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How two lists of class names differ, in words."""
    if len(theirs) != len(ours):
        return f"there are {len(theirs)} classes there and {len(ours)} here"
    pairs = enumerate(zip(theirs, ours, strict=True))
    label = next(label for label, (one, other) in pairs if as_read(one) != as_read(other))
    return f"class {label} is '{theirs[label]}' there and '{ours[label]}' here"
