"""What a finished run sees in pictures: `python -m tools.predict --model-dir DIR a.jpg folder ...`.

Prints the most probable classes of every image, those of the training or any that --classes names.
Writes them as JSON or CSV, too, and copies the images into a folder per class, on request. Ends
with 1 if an image could not be read.
"""

import argparse
import os
import os.path as osp
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from datasets.files import list_images, say_left_out, why_unread
from tools import inputs, sorting, trained
from tools.arguments import Parser
from tools.inputs import InputError
from tools.trained import Trained

AT_ONCE = 64  # images, or fewer if the run tested with smaller batches


class Pictures(DatasetWrapper):
    """Images (3, R, R), transformed as the run's test images; for an unreadable one a text why."""

    def __getitem__(self, index: int) -> Tensor | str:  # type: ignore[override]
        try:
            return super().__getitem__(index)["img"]
        except UserError as error:
            return why_unread(self.data_source[index].impath, error)

    @staticmethod
    def say(text: str) -> None:  # type: ignore[override] # it stands for print
        tqdm.write(text, file=sys.stderr)


def find_images(paths: Sequence[str], unread: bool = True) -> list[str]:
    """Files as given, and the images of folders and their subfolders.

    unread: photos and videos in folders that no program here reads are among them, so that whoever
    asked for all of a folder is told of each. Raises UserError for a file that does not exist, and
    for a folder without images.
    """
    images = []
    for path in paths:
        left_out: Counter = Counter()
        inside = [path]
        if osp.isdir(path):
            names = list_images(path, "", left_out, "correct the path", unread)
            inside = [osp.join(path, name) for name in names]
        if note := say_left_out(path, left_out):
            sys.stderr.write(f"note: {note}\n")
        if not inside:
            raise UserError(f"folder '{path}' holds no images: correct the path")
        if inside == [path] and not osp.isfile(path):
            raise UserError(f"image '{path}' does not exist: correct the path")
        images += inside
    return images


@torch.no_grad()
def of_images(
    run: Trained, items: Sequence[Datum], compute: Callable[[Tensor], Tensor]
) -> Iterator[Tensor | str]:
    """The row of compute(images (B, 3, R, R)), on the CPU, that is of each item, in order.

    Of an image that cannot be read a text why. Shows a progress bar.
    """
    size = min(AT_ONCE, run.cfg.DATALOADER.TEST.BATCH_SIZE)
    batches = -(-len(items) // size)
    pictures = Pictures(run.cfg, items, run.transform)
    workers = min(run.cfg.DATALOADER.NUM_WORKERS, batches - 1)
    loader = Loader(pictures, size, num_workers=workers, collate_fn=list)
    with progress_bar(len(items), "images") as bar:
        for batch in loader:
            good = [item for item in batch if isinstance(item, Tensor)]
            rows: Iterator[Tensor] = iter(())
            if good:
                rows = iter(compute(torch.stack(good).to(run.clip.device)).cpu())
            for item in batch:
                yield item if isinstance(item, str) else next(rows)
            bar.update(len(batch))


def probabilities(
    run: Trained, items: Sequence[Datum], texts: Tensor | None
) -> Iterator[Tensor | str]:
    """Probabilities (C,) on the CPU of each item, in order, or why there are none.

    texts: what `encode_class_texts` of the run's model gives. Raises UserError for scores that
    are not finite.
    """

    def compute(images: Tensor) -> Tensor:
        scores = run.clip.logits(images, texts)
        check_scores(scores)
        return scores.softmax(1)

    return of_images(run, items, compute)


def predictions(run: Trained, paths: Sequence[str]) -> Iterator[tuple[str, Tensor | str]]:
    """(path, probabilities (C,) or why there are none) of each image file, as `probabilities`."""
    items = [Datum(impath=path) for path in paths]
    return zip(paths, probabilities(run, items, run.clip.encode_class_texts()), strict=True)


def run(args: argparse.Namespace) -> int:
    _check(args)
    paths = find_images(args.images)
    outputs = _check_outputs(args, paths)
    model = trained.load_from(args)
    names = model.clip.classnames
    trained.check_several(names, " with --classes")
    sort = Sorted(args, names, outputs) if args.sort_into else None
    results, skipped = [], {}
    for path, row in predictions(model, paths):
        if isinstance(row, str):
            skipped[path] = row
            tqdm.write(f"skipped: {row}", file=sys.stderr)
            continue
        top = most_probable(row, names, args.top)
        results.append({"image": path, "top": top})
        lines = [f"  {one['probability']:7.2%}  {one['class']}" for one in top]
        if sort:
            lines.append(f"  {sort.take(path, top[0])}")
        tqdm.write("\n".join([escaped(path), *lines]))
    if args.json:
        content = {
            "model_dir": args.model_dir,
            "trainer": model.cfg.TRAINER.NAME,
            "classnames": names,
            "images": results,
            "skipped": skipped,
        }
        write_json(content, str(args.json))
    if args.csv:
        inputs.write(args.csv, as_csv(results, skipped, min(args.top, len(names))), "--csv")
    if sort:
        sys.stderr.write(f"{sort.summary()}\n")
    if skipped:
        sys.stderr.write(f"{len(skipped)} of {len(paths)} image(s) could not be read\n")
    return 1 if skipped else 0


def _check(args: argparse.Namespace) -> None:
    """Raise UserError or InputError for options that cannot be meant, before anything is read."""
    if args.top < 1:
        raise UserError(f"--top is {args.top}: set it to 1 or more")
    if args.at_least is not None and not args.sort_into:
        raise InputError("--at-least says what is sorted as unsure: give --sort-into, too")
    if args.at_least is not None and not 0 < args.at_least <= 1:
        raise InputError(f"--at-least is {args.at_least}: set it to a probability, such as 0.5")


def _check_outputs(args: argparse.Namespace, images: Sequence[str]) -> list[inputs.Output]:
    """What the options name to write. Raises InputError as `inputs.check_outputs` does, and for
    --sort-into as `sorting.check_place`, which makes the folder.
    """
    named = ((f"--{what}", getattr(args, what)) for what in ("json", "csv"))
    found = [inputs.Output(option, path) for option, path in named]
    folder = Path(args.sort_into) if args.sort_into else None
    found.append(inputs.Output("--sort-into", folder, folder=True))
    inputs.check_outputs(found, [*images, *trained.files_of(args)])
    if folder:
        sorting.check_place(folder, args.images, args.model_dir)
    return found


class Sorted:
    """Copies images into folders as their classes are found."""

    def __init__(
        self, args: argparse.Namespace, classes: Sequence[str], outputs: Sequence[inputs.Output]
    ):
        """Raises InputError as `sorting.folder_names` does, and if a class's folder has the name of
        one of `outputs`.
        """
        self.folder, self.least = Path(args.sort_into), args.at_least or 0.0
        self.names = sorting.folder_names(classes, args.at_least is not None)
        unsure = [] if args.at_least is None else [sorting.UNSURE]
        folders = {name.casefold() for name in (*self.names.values(), *unsure)}
        for option, path, *_ in outputs:
            if path and path.parent.resolve() == self.folder.resolve():
                if path.name.casefold() in folders:
                    raise InputError(
                        f"{option} is '{path}', a folder that --sort-into makes: give another name"
                    )
        self.copied = self.known = self.unsure = 0

    def take(self, path: str, best: dict) -> str:
        """Copy an image; returns where the copy is, in words."""
        sure = best["probability"] >= self.least
        place, new = sorting.copy(
            path, self.folder / (self.names[best["class"]] if sure else sorting.UNSURE)
        )
        self.copied, self.known = self.copied + new, self.known + (not new)
        self.unsure += not sure
        return f"{'copied to' if new else 'is there already:'} {escaped(str(place))}"

    def summary(self) -> str:
        """One line for the end."""
        known = f", {self.known} were there already" if self.known else ""
        unsure = f", {self.unsure} of all are in '{sorting.UNSURE}'" if self.least else ""
        return f"{self.copied} image(s) copied into '{self.folder}'{known}{unsure}"


def as_csv(results: Sequence[dict], skipped: dict[str, str], top: int) -> str:
    """A table: image, then the `top` most probable classes, then why an image was skipped."""
    numbers = ["", *(f"_{place}" for place in range(2, top + 1))]
    head = [f"{what}{number}" for number in numbers for what in ("class", "probability")]
    rows = []
    for one in results:
        pairs = [(entry["class"], f"{entry['probability']:.6f}") for entry in one["top"]]
        rows.append([one["image"], *(cell for pair in pairs for cell in pair), ""])
    rows += [[path, *[""] * (2 * top), why] for path, why in skipped.items()]
    return inputs.comma_separated(["image", *head, "skipped"], rows)


def most_probable(row: Tensor, names: Sequence[str], number: int) -> list[dict]:
    """The `number` most probable classes of probabilities (C,), the first one first."""
    values, labels = row.topk(min(number, len(names)))
    return [
        {"class": names[label], "probability": value}
        for value, label in zip(values.tolist(), labels.tolist(), strict=True)
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.predict",
    )
    parser.add_argument("images", type=osp.expanduser, nargs="+", metavar="IMAGE_OR_FOLDER")
    trained.add_arguments(parser)
    parser.add_argument("--top", type=int, default=5, help="how many classes to show")
    parser.add_argument("--json", type=inputs.path, metavar="FILE", help="write the same there")
    parser.add_argument(
        "--csv", type=inputs.path, metavar="FILE", help="write the same there as a table"
    )
    parser.add_argument(
        "--sort-into",
        type=osp.expanduser,
        metavar="FOLDER",
        help="copy each image into a folder of its class in there; nothing is moved or replaced",
    )
    parser.add_argument(
        "--at-least",
        type=float,
        metavar="P",
        help=f"copy images whose best class is less probable into '{sorting.UNSURE}' instead",
    )
    if here := os.environ.get("HERE"):  # where the caller of scripts/predict.sh is
        os.chdir(here)
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
