"""Frozen image features of a whole training set, for methods that learn nothing about images: encoded once, not at every step.

Exact where the training transform is the same every time. Otherwise `TRAINER.CACHED_VIEWS` K draws K augmented views
of every image once and for all, and a step takes one of them at random.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainers.cache import TensorFile, rng_untouched
from trainers.parallel import from_main

FIXED = {"normalize", "center_crop", "instance_norm"}  # transforms that do the same every time


class FeatureViews(Dataset):
    """Items as of DatasetWrapper, with `img` one of the K cached features (D,) of the image instead of the image.

    views: (K, N, D). The choice follows torch's generator; nothing is drawn for K = 1.
    """

    def __init__(self, items: Sequence, views: Tensor):
        self.items, self.views = items, views

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        item, number = self.items[index], len(self.views)
        view = int(torch.randint(number, ())) if number > 1 else 0
        return {
            "img": self.views[view, index],
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "classname": item.classname,
        }


def encoded_views(
    number: int,
    batches: Callable[[], Iterable[Tensor]],
    seed: int,
    description: dict,
    folder: str | None,
    say: Callable[[str], None] = print,
) -> Tensor:
    """Features (K, N, D) of `number` = K passes over `batches()`, which yields features (B, D) of all N images in order.

    Drawn under `seed` and cached in `folder`; the global random states stay as they were.
    """
    file, count = TensorFile(folder, [description, number, seed]), len(description["images"])

    def find() -> tuple[Tensor, bool]:
        if (
            stored := file.read(lambda tensors: tensors["views"].shape[:2] == (number, count), say)
        ) is not None:
            return stored["views"], True
        torch.manual_seed(seed)
        views = torch.stack([torch.cat(list(batches())).cpu() for _ in range(number)])
        file.write({"views": views}, say)
        return views, False

    with rng_untouched():
        views, hit = from_main(find)
    say(
        f"{number} view(s) of {count} training images are encoded once, for all steps {file.state(hit)}"
    )
    return views
