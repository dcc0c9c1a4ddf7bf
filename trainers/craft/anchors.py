"""Static image anchors: k-means centroids of frozen image features per class, cached on disk."""

import logging
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from trainers.cache import TensorFile, rng_untouched
from trainers.parallel import from_main

log = logging.getLogger(__name__)


class Anchors(nn.Module):
    """Unit-norm anchors `features` (A, D), float32, and the class index of each, `labels` (A,).

    No checkpoint holds them.
    """

    features: Tensor
    labels: Tensor

    def __init__(self, features: Tensor, labels: Tensor):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("labels", labels, persistent=False)


def cluster(features: Tensor, labels: Tensor, per_class: int, seed: int) -> Anchors:
    """Unit-norm k-means centroids of features (N, D) within each class of labels (N,).

    In label order. A class with fewer distinct features than `per_class` gets one anchor for each
    of them. Draws from no global random state.
    """
    centroids, centroid_labels = [], []
    rows = features.double().cpu().numpy()
    for label in labels.unique().tolist():
        of_class = rows[(labels == label).cpu().numpy()]
        k = min(per_class, len(np.unique(of_class, axis=0)))
        if k == 1:
            centres = of_class.mean(0, keepdims=True)
        else:
            centres = KMeans(k, n_init=10, random_state=seed).fit(of_class).cluster_centers_
        centroids.append(torch.from_numpy(centres))
        centroid_labels += [label] * k
    unit_norm = F.normalize(torch.cat(centroids), dim=1)
    return Anchors(unit_norm.float(), torch.tensor(centroid_labels))


def image_anchors(
    description: dict,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    per_class: int,
    seed: int,
    folder: str | None,
    say: Callable[[str], None] = log.info,
) -> Anchors:
    """Anchors from the cache file in `folder` that `description` determines, built on a miss.

    batches() yields features (B, D) and labels (B,) of the training images; it is called only on a
    miss. Corrupt files are rebuilt, unwritable folders skipped; both are logged, as is a cache hit.
    """
    classes = {label for *_, label in description["images"]}
    file = TensorFile(folder, [description, per_class, seed])

    def read_or_make() -> tuple[Tensor, Tensor, bool]:
        if (stored := file.read(lambda tensors: _whole(tensors, classes), say)) is not None:
            return stored["features"], stored["labels"], True
        features, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
        made = cluster(features.cpu(), labels.cpu(), per_class, seed)
        file.write({"features": made.features, "labels": made.labels}, say)
        return made.features, made.labels, False

    with rng_untouched():
        features, labels, hit = from_main(read_or_make)
        anchors = Anchors(features, labels)
    per_label = torch.bincount(anchors.labels)
    say(
        f"CRAFT: {len(anchors.labels)} static image anchors of {len(classes)} classes from "
        f"{len(description['images'])} images {file.state(hit)}"
    )
    if short := int(((per_label > 0) & (per_label < per_class)).sum()):
        say(
            f"CRAFT: {short} classes have fewer than {per_class} different images and get one "
            "anchor for each"
        )
    return anchors


def _whole(stored: dict[str, Tensor], classes: set[int]) -> bool:
    features, labels = stored["features"], stored["labels"]
    return (
        features.shape[:1] == labels.shape
        and set(labels.tolist()) == classes
        and bool(((features.norm(dim=1) - 1).abs() < 1e-3).all())
    )
