"""What a finished run sees in pictures: `python -m tools.predict --model-dir DIR picture.jpg folder ...`.

Prints the most probable classes of every image, those of the training or any that --classes names. Ends with 1 if an image
could not be read.
"""

import argparse
import os.path as osp
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dassl.data.data_manager import DatasetWrapper, Loader
from dassl.data.datasets import Datum
from dassl.evaluation import check_scores
from dassl.printable import escaped
from dassl.utils import UserError, write_json
from dassl.utils.logger import progress_bar
from datasets.files import list_images, say_left_out
from tools import inputs, trained
from trainers.base import PromptTrainer

AT_ONCE = 64  # images, or fewer if the run tested with smaller batches


class Pictures(DatasetWrapper):
    """Images (3, R, R), transformed as the run's test images are; where one cannot be read, a text that says so."""

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            return super().__getitem__(index)["img"]
        except UserError as error:
            return str(error).rpartition(": ")[0]  # the remedy is for images of a data set

    @staticmethod
    def say(text: str) -> None:
        tqdm.write(text, file=sys.stderr)


def find_images(paths: Sequence[str]) -> list[str]:
    """Files as given, and the images of folders and their subfolders. Raises UserError for what is not there and empty folders."""
    found = []
    for path in paths:
        left_out: Counter = Counter()
        inside = (
            [osp.join(path, name) for name in list_images(path, "", left_out, "correct the path")]
            if osp.isdir(path)
            else [path]
        )
        if said := say_left_out(path, left_out):
            sys.stderr.write(f"note: {said}\n")
        if not inside:
            raise UserError(f"folder '{path}' holds no images: correct the path")
        if inside == [path] and not osp.isfile(path):
            raise UserError(f"image '{path}' does not exist: correct the path")
        found += inside
    return found


@torch.no_grad()
def predictions(trainer: PromptTrainer, paths: Sequence[str]) -> Iterator[tuple[str, Tensor | str]]:
    """(path, probabilities (C,) on the CPU, or why there are none) of each image, in order.

    Shows a progress bar. Raises UserError for scores that are not finite.
    """
    size = min(AT_ONCE, trainer.cfg.DATALOADER.TEST.BATCH_SIZE)
    batches = -(-len(paths) // size)
    pictures = Pictures(trainer.cfg, [Datum(impath=path) for path in paths], trainer.dm.tfm_test)
    workers = min(trainer.cfg.DATALOADER.NUM_WORKERS, batches - 1)
    loader = Loader(pictures, size, num_workers=workers, collate_fn=list)
    left = iter(paths)
    with trainer.class_texts_once(), progress_bar(len(paths), "images") as bar:
        for batch in loader:
            good = [item for item in batch if isinstance(item, Tensor)]
            rows = iter(())
            if good:
                scores = trainer.model_inference(torch.stack(good).to(trainer.device))
                check_scores(scores)
                rows = iter(scores.softmax(1).cpu())
            for item in batch:
                yield next(left), item if isinstance(item, str) else next(rows)
            bar.update(len(batch))


def run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UserError(f"--top is {args.top}: set it to 1 or more")
    if args.json:
        inputs.check_name(Path(args.json), "--json")
    paths = find_images(args.images)
    trainer = trained.load_from(args)
    names = trainer.classnames
    if len(names) < 2:
        raise UserError(
            f"'{names[0]}' is the only class, and would have probability 1 for every image: give two or more with --classes"
        )
    found, skipped = [], {}
    for path, row in predictions(trainer, paths):
        if isinstance(row, str):
            skipped[path] = row
            tqdm.write(f"skipped: {row}", file=sys.stderr)
            continue
        values, labels = row.topk(min(args.top, len(names)))
        top = [
            {"class": names[label], "probability": value}
            for value, label in zip(values.tolist(), labels.tolist(), strict=True)
        ]
        found.append({"image": path, "top": top})
        tqdm.write(
            "\n".join(
                [escaped(path), *(f"  {one['probability']:7.2%}  {one['class']}" for one in top)]
            )
        )
    if args.json:
        write_json(
            {
                "model_dir": args.model_dir,
                "trainer": trainer.cfg.TRAINER.NAME,
                "classnames": names,
                "images": found,
                "skipped": skipped,
            },
            args.json,
        )
    if skipped:
        sys.stderr.write(f"{len(skipped)} of {len(paths)} image(s) could not be read\n")
    return 1 if skipped else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.predict",
    )
    parser.add_argument("images", type=osp.expanduser, nargs="+", metavar="IMAGE_OR_FOLDER")
    trained.add_arguments(parser)
    parser.add_argument("--top", type=int, default=5, help="how many classes to show")
    parser.add_argument("--json", type=osp.expanduser, metavar="FILE", help="write the same there")
    return trained.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
