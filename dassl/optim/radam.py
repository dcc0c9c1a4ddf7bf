"""RAdam (Liu et al., ICLR 2020, arXiv 1908.03265), with upstream Dassl's name and weight decay."""

from collections.abc import Iterable

from torch import optim


class RAdam(optim.RAdam):
    """torch's, which decays weights by themselves, not through the gradients.

    Raises ValueError if `degenerated_to_sgd` is False: torch's always takes a plain step while the
    variance is not tractable.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ):
        if not degenerated_to_sgd:
            raise ValueError(
                "RAdam with degenerated_to_sgd False is not supported: leave the option out"
            )
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
        )
