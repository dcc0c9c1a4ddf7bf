"""Static image anchors: k-means centroids of frozen CLIP image features, per class, cached on disk."""

import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

VERSION = 1  # of what determines the numbers; a change makes every cache file a miss


class Anchors(nn.Module):
    """Unit-norm anchors `features` (A, D), float32, and the class index of each, `labels` (A,); in no checkpoint."""

    def __init__(self, features: Tensor, labels: Tensor):
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("labels", labels, persistent=False)


@contextmanager
def rng_untouched() -> Iterator[None]:
    """Whatever happens inside, the global random states of Python, numpy and torch are afterwards as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


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
        centroids = own.mean(0, keepdims=True) if k == 1 else KMeans(k, n_init=10, random_state=seed).fit(own).cluster_centers_
        found.append(torch.from_numpy(centroids))
        owners += [label] * k
    return Anchors(F.normalize(torch.cat(found), dim=1).float(), torch.tensor(owners))


def describe(items: Sequence, root: str, transform: object, **what) -> dict:
    """All that determines anchors, as plain JSON: images (path below `root`, size, time, label), transform, and `what`."""
    images = []
    for item in items:
        stat = os.stat(item.impath)
        images.append([os.path.relpath(item.impath, root or "."), stat.st_size, stat.st_mtime_ns, int(item.label)])
    return {"version": VERSION, "images": images, "transform": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(transform)), **what}


def image_anchors(description: dict, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], per_class: int, seed: int,
                  folder: str | None, say: Callable[[str], None] = print) -> Anchors:
    """Anchors from the cache file in `folder` that `description` determines, or made and written there.

    `batches()` yields features (B, D) and labels (B,) of the training images; it is called only on a miss. A damaged file is
    replaced, a folder that cannot be written is done without, and both are said, as is what was found.
    """
    with rng_untouched():
        key = hashlib.sha256(json.dumps([description, per_class, seed], sort_keys=True).encode()).hexdigest()
        path = folder and os.path.join(folder, f"{key[:24]}.pt")
        classes = {label for *_, label in description["images"]}
        anchors = _read(path, key, classes, say) if path else None
        hit = anchors is not None
        if not hit:
            features, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
            anchors = cluster(features.cpu(), labels.cpu(), per_class, seed)
            if path:
                _write(path, key, anchors, say)
    per_label = torch.bincount(anchors.labels)
    say(f"CRAFT: {len(anchors.labels)} static image anchors of {len(classes)} classes from {len(description['images'])} images "
        + (f"(cache hit: '{path}')" if hit else f"(cache miss, written to '{path}')" if path and os.path.isfile(path) else
           "(not cached)"))
    if short := int(((per_label > 0) & (per_label < per_class)).sum()):
        say(f"CRAFT: {short} classes have fewer than {per_class} different images and get one anchor for each")
    return anchors


def _read(path: str, key: str, classes: set[int], say: Callable[[str], None]) -> Anchors | None:
    if not os.path.isfile(path):
        return None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        anchors = Anchors(stored["features"], stored["labels"])
        lengths = anchors.features.norm(dim=1)
        whole = (stored["key"] == key and anchors.features.shape[:1] == anchors.labels.shape
                 and set(anchors.labels.tolist()) == classes and bool(((lengths - 1).abs() < 1e-3).all()))
    except Exception:  # noqa: BLE001 - a damaged archive can fail in any way, and all of them mean the same
        whole = False
    if not whole:
        say(f"CRAFT: anchor file '{path}' is damaged: building the anchors again")
        return None
    return anchors


def _write(path: str, key: str, anchors: Anchors, say: Callable[[str], None]) -> None:
    """Atomically: several runs may share the folder."""
    temporary = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), suffix=".part", delete=False) as file:
            temporary = file.name
            torch.save({"features": anchors.features, "labels": anchors.labels, "key": key}, file)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        say(f"CRAFT: the anchors cannot be cached in '{os.path.dirname(path)}' ({str(error).splitlines()[0]}): going on without")
