"""Static image anchors: k-means centroids of frozen CLIP image features, per class, cached on disk."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from trainers.cache import TensorFile, rng_untouched
from trainers.parallel import from_main


class Anchors(nn.Module):
    """Unit-norm anchors `features` (A, D), float32, and the class index of each, `labels` (A,); in no checkpoint."""

    def __init__(self, features: Tensor, labels: Tensor):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("labels", labels, persistent=False)


def cluster(features: Tensor, labels: Tensor, per_class: int, seed: int) -> Anchors:
    """Unit-norm k-means centroids within each class of features (N, D) with labels (N,), in label order.

    A class with fewer distinct features than `per_class` gets as many anchors as it has distinct features. Draws from no
    global random state.
    """
    found, owners = [], []
    rows = features.double().cpu().numpy()
    for label in labels.unique().tolist():
        own = rows[(labels == label).cpu().numpy()]
        k = min(per_class, len(np.unique(own, axis=0)))
        centroids = (
            own.mean(0, keepdims=True)
            if k == 1
            else KMeans(k, n_init=10, random_state=seed).fit(own).cluster_centers_
        )
        found.append(torch.from_numpy(centroids))
        owners += [label] * k
    return Anchors(F.normalize(torch.cat(found), dim=1).float(), torch.tensor(owners))


def image_anchors(
    description: dict,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    per_class: int,
    seed: int,
    folder: str | None,
    say: Callable[[str], None] = print,
) -> Anchors:
    """Anchors from the cache file in `folder` that `description` determines, or made and written there.

    `batches()` yields features (B, D) and labels (B,) of the training images; it is called only on a miss. A damaged file is
    replaced, a folder that cannot be written is done without, and both are said, as is what was found.
    """
    classes = {label for *_, label in description["images"]}
    file = TensorFile(folder, [description, per_class, seed])

    def find() -> tuple[Tensor, Tensor, bool]:
        if (stored := file.read(lambda tensors: _whole(tensors, classes), say)) is not None:
            return stored["features"], stored["labels"], True
        features, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
        made = cluster(features.cpu(), labels.cpu(), per_class, seed)
        file.write({"features": made.features, "labels": made.labels}, say)
        return made.features, made.labels, False

    with rng_untouched():
        features, labels, hit = from_main(find)
        anchors = Anchors(features, labels)
    per_label = torch.bincount(anchors.labels)
    say(
        f"CRAFT: {len(anchors.labels)} static image anchors of {len(classes)} classes from {len(description['images'])} images "
        + file.state(hit)
    )
    if short := int(((per_label > 0) & (per_label < per_class)).sum()):
        say(
            f"CRAFT: {short} classes have fewer than {per_class} different images and get one anchor for each"
        )
    return anchors


def _whole(stored: dict[str, Tensor], classes: set[int]) -> bool:
    features, labels = stored["features"], stored["labels"]
    return (
        features.shape[:1] == labels.shape
        and set(labels.tolist()) == classes
        and bool(((features.norm(dim=1) - 1).abs() < 1e-3).all())
    )
