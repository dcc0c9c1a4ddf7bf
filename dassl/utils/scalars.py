"""Curves of a run: TensorBoard always, Weights & Biases if the configuration asks for it."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from dassl.record import WANDB_ID
from dassl.utils.tools import UserError


def _run_id(folder: str) -> str:
    """The id of the W&B run of a training: the one in its folder, else a new one."""
    path = Path(folder, WANDB_ID)
    try:
        known = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        known = ""
    if not known.isalnum():
        known = uuid.uuid4().hex
        path.write_text(known + "\n", encoding="utf-8")
    return known


class ScalarLog:
    """Writes scalars to TensorBoard's files in `log_dir` and, with LOG.WANDB, to a W&B run of
    project LOG.WANDB_PROJECT.

    The account is whatever `wandb login` or WANDB_API_KEY says; WANDB_MODE=offline writes to the
    disk only. name, group: of the W&B run. A training that goes on in `log_dir` goes on with its
    W&B run, whose id is in WANDB_ID there. Raises UserError if W&B is asked for and not installed,
    or does not start, and where a file cannot be written.
    """

    def __init__(
        self,
        log_dir: str,
        options=None,
        config: dict | None = None,
        name: str | None = None,
        group: str | None = None,
    ):
        self._wandb = None
        self._folder, self._hook = log_dir, threading.excepthook
        if options is not None and options.WANDB:
            try:
                import wandb
            except ImportError:
                raise UserError(
                    "LOG.WANDB is True but the package wandb is not installed: run `pip install "
                    "wandb`, or set LOG.WANDB False"
                ) from None
            with self._refusals():
                run_id = _run_id(log_dir)
            try:
                self._wandb = wandb.init(
                    project=options.WANDB_PROJECT,
                    dir=log_dir,
                    config=config,
                    name=name,
                    group=group,
                    id=run_id,
                    resume="allow",
                    reinit=True,
                )
            except Exception as error:  # wandb raises a dozen kinds
                raise UserError(
                    f"LOG.WANDB is True but wandb does not start ({' '.join(str(error).split())}): "
                    "run `wandb login`, set WANDB_MODE=offline, or LOG.WANDB False"
                ) from None
        threading.excepthook = self._quiet
        with self._refusals():
            self._board = SummaryWriter(log_dir=log_dir)

    def _quiet(self, error: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread, whose error is raised again when the next number is
        written.
        """
        tensorboard = type(error.thread).__module__.startswith("tensorboard.")
        if not (tensorboard and issubclass(error.exc_type, OSError)):
            self._hook(error)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            threading.excepthook = self._hook
            raise UserError(
                f"cannot write the curves to '{self._folder}' ({error.strerror or error}): "
                "free space, correct the rights, or choose another OUTPUT_DIR"
            ) from None

    def add_scalar(self, tag: str, value: float, global_step: int | None = None) -> None:
        with self._refusals():
            self._board.add_scalar(tag, value, global_step)
        if self._wandb is not None:
            self._wandb.log(
                {tag: value} if global_step is None else {tag: value, "step": global_step}
            )

    def close(self) -> None:
        with self._refusals():
            self._board.close()
        threading.excepthook = self._hook
        if self._wandb is not None:
            self._wandb.finish()
