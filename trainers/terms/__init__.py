"""Loss terms that any structure can be trained with, beside its own.

A term is one file of this folder, found by itself: a subclass of `Term`, registered with
`register`, that declares its options in `extend_cfg`. TRAINER.TERMS names the terms of a run:
`TRAINER.TERMS "('Confidence',)"`. CRAFT's three terms are of the same class (`trainers.craft`).
A term sees a `Step`, and never knows which structure made its features.
"""

from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn
from yacs.config import CfgNode

from trainers.errors import UserError
from trainers.step import Step

if TYPE_CHECKING:
    from trainers.base import PromptTrainer

Kind = TypeVar("Kind", bound="type[Term]")
TERMS: dict[str, "type[Term]"] = {}  # by class name


class Term(nn.Module):
    """A loss term: what it checks and prepares before training, and its value for a step.

    Parameters of a term are not learned: a checkpoint holds the structure's prompts, and beside
    them, for a run that goes on, the persistent buffers of its terms.
    """

    name: str  # in the log
    node: str  # the group of its options under cfg.TRAINER
    domains = False  # whether a step needs the domains of its images
    unlabelled = False  # whether a step needs unlabelled images of the target domain
    replaces: tuple[str, ...] = ()  # names of the method's terms in whose place it stands

    def __init__(self, options: CfgNode):
        """options: cfg.TRAINER[node]."""
        super().__init__()
        self.options = options

    @classmethod
    def weight(cls, options: CfgNode) -> float:
        """What the value is multiplied with; 0 leaves the term out."""
        return options.WEIGHT

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        """Raise UserError for options that do not fit each other; only for a weight above 0."""

    def prepare(self, trainer: "PromptTrainer") -> None:
        """Compute what training needs once, such as anchors. Random states must stay untouched."""

    def check_data(self, trainer: "PromptTrainer") -> None:
        """Raise UserError, before the first step, for data that the term cannot work with."""

    def inputs(self) -> str:
        """For a warning: the option that chooses what the term compares, and its value."""
        return f"TRAINER.{self.node}"

    def forward(self, step: Step) -> Tensor:
        """The value for a step, a scalar, without the weight."""
        raise NotImplementedError


def register(kind: Kind) -> Kind:
    """Make a term known to TRAINER.TERMS under the name of its class.

    Raises UserError for a term without `name` or `node`, and for a class name that a term of
    another module has.
    """
    title, module = kind.__name__, kind.__module__
    for attribute in ("name", "node"):
        if not isinstance(getattr(kind, attribute, None), str):
            raise UserError(f"the term {title} of {module} lacks `{attribute}`, a text: add it")
    if (known := TERMS.get(title)) and known.__module__ != module:
        raise UserError(f"{known.__module__} and {module} both have a term {title}: rename one")
    TERMS[title] = kind
    return kind
