"""Curves of a run: TensorBoard always, Weights & Biases if the configuration asks for it."""

from torch.utils.tensorboard import SummaryWriter

from dassl.utils.tools import UserError


class ScalarLog:
    """Writes scalars to TensorBoard's files in `log_dir` and, with LOG.WANDB, to a W&B run of project LOG.WANDB_PROJECT.

    The account is whatever `wandb login` or WANDB_API_KEY says; WANDB_MODE=offline writes to the disk only. Raises UserError if
    W&B is asked for and not installed, or does not start.
    """

    def __init__(self, log_dir: str, options=None, config: dict | None = None):
        self._wandb = None
        if options is not None and options.WANDB:
            try:
                import wandb
            except ImportError:
                raise UserError("LOG.WANDB is True but the package wandb is not installed: run `pip install wandb`, or set LOG.WANDB False") from None
            try:
                self._wandb = wandb.init(project=options.WANDB_PROJECT, dir=log_dir, config=config, reinit=True)
            except Exception as error:  # wandb raises a dozen kinds
                raise UserError(f"LOG.WANDB is True but wandb does not start ({' '.join(str(error).split())}): run `wandb login`, set "
                                "WANDB_MODE=offline, or LOG.WANDB False") from None
        self._board = SummaryWriter(log_dir=log_dir)

    def add_scalar(self, tag: str, value: float, global_step: int | None = None) -> None:
        self._board.add_scalar(tag, value, global_step)
        if self._wandb is not None:
            self._wandb.log({tag: value} if global_step is None else {tag: value, "step": global_step})

    def close(self) -> None:
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
