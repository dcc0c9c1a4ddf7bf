"""Static image anchors: their values, their cache, and that nothing else notices them."""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from tiny_clip import named_tensor

from trainers.cache import describe
from trainers.craft.anchors import Anchors, cluster, image_anchors

FEATURES = F.normalize(named_tensor("anchor-features", (12, 8)), dim=1)
LABELS = torch.tensor([2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 2])


def test_one_per_class_is_the_unit_mean():
    anchors = cluster(FEATURES, LABELS, 1, 0)
    assert anchors.labels.tolist() == [0, 1, 2] and anchors.features.dtype == torch.float32
    for label in range(3):
        mean = FEATURES[LABELS == label].mean(0)
        assert torch.allclose(anchors.features[label], mean / mean.norm(), atol=1e-6)


def test_more_per_class_are_sklearns_centroids():
    anchors = cluster(FEATURES, LABELS, 2, 5)
    assert anchors.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for label in range(3):
        own = FEATURES[LABELS == label].double().numpy()
        centres = KMeans(2, n_init=10, random_state=5).fit(own).cluster_centers_
        expected = torch.from_numpy(
            centres / np.linalg.norm(centres, axis=1, keepdims=True)
        ).float()
        assert torch.allclose(anchors.features[anchors.labels == label], expected, atol=1e-6)


def test_few_or_equal_images_give_fewer_anchors():
    features = torch.cat([FEATURES[:3], FEATURES[:1].expand(4, -1)])
    anchors = cluster(features, torch.tensor([0, 0, 1, 2, 2, 2, 2]), 3, 0)
    assert anchors.labels.tolist() == [0, 0, 1, 2]
    assert torch.allclose(anchors.features[2:], features[[2, 3]], atol=1e-6)


def test_class_indices_are_kept_not_counted():
    assert cluster(FEATURES[:4], torch.tensor([9, 4, 4, 9]), 1, 0).labels.tolist() == [4, 9]


def test_anchors_are_in_no_checkpoint():
    anchors = cluster(FEATURES, LABELS, 1, 0)
    assert (
        not anchors.state_dict()
        and not list(anchors.parameters())
        and not anchors.features.requires_grad
    )


@pytest.fixture
def items(tmp_path):
    found = []
    for i, label in enumerate(LABELS.tolist()):
        path = tmp_path / "data" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(i + 1))
        found.append(SimpleNamespace(impath=str(path), label=label))
    return found


class Setting:
    """A run's worth of calls: counts how often features were computed and keeps what was said."""

    def __init__(self, items, folder):
        self.items, self.folder, self.computed, self.said = items, folder, 0, []

    def batches(self):
        self.computed += 1
        random.random(), np.random.rand(), torch.rand(1)  # whatever a loader may draw
        for some in torch.arange(12).split(5):
            yield FEATURES[some], LABELS[some]

    def build(self, per_class=1, seed=0, **what) -> Anchors:
        description = describe(
            self.items,
            os.path.dirname(self.items[0].impath),
            "transform",
            **{"backbone": "b", **what},
        )
        return image_anchors(
            description, self.batches, per_class, seed, self.folder, self.said.append
        )


@pytest.fixture
def setting(items, tmp_path):
    return Setting(items, str(tmp_path / "cache" / "anchors"))


def test_the_second_run_reads_the_first_ones_anchors(setting):
    first, second = setting.build(2), setting.build(2)
    assert setting.computed == 1
    assert torch.equal(first.features, second.features) and torch.equal(first.labels, second.labels)
    assert setting.said[0].startswith(
        "CRAFT: 6 static image anchors of 3 classes from 12 images (cache miss, written to '"
    )
    assert setting.said[1].startswith(
        "CRAFT: 6 static image anchors of 3 classes from 12 images (cache hit: '"
    )
    assert len(setting.said) == 2 and len(os.listdir(setting.folder)) == 1


def test_whatever_determines_the_anchors_makes_a_new_file(setting):
    setting.build()
    for change in ({"per_class": 2}, {"seed": 1}, {"backbone": "other"}):
        setting.build(**change)
    setting.items[0].label = 1
    setting.build()
    setting.items = setting.items[:-1]
    setting.build()
    with open(setting.items[3].impath, "ab") as file:
        file.write(b"edited")
    setting.build()
    assert setting.computed == 7 and len(os.listdir(setting.folder)) == 7


def test_a_moved_data_folder_is_still_a_hit(setting, tmp_path):
    setting.build()
    os.rename(tmp_path / "data", tmp_path / "moved")
    for item in setting.items:
        item.impath = item.impath.replace("/data/", "/moved/")
    setting.build()
    assert setting.computed == 1


def test_addresses_of_objects_do_not_matter():
    assert describe([], "", object())["transform"] == describe([], "", object())["transform"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "list", "numbers"])
def test_a_damaged_file_is_replaced(setting, damage):
    first = setting.build()
    path = os.path.join(setting.folder, os.listdir(setting.folder)[0])
    with open(path, "rb") as file:
        content = file.read()
    if damage in ("cut", "garbage", "empty"):
        with open(path, "wb") as file:
            file.write(
                {"cut": content[: len(content) // 2], "garbage": b"x" * 100, "empty": b""}[damage]
            )
    elif damage == "list":
        torch.save([1], path)
    else:
        stored = torch.load(path)
        torch.save(stored | {"features": stored["features"] * float("nan")}, path)
    again = setting.build()
    assert setting.computed == 2 and torch.equal(first.features, again.features)
    assert setting.said[1] == f"The cache file '{path}' is damaged: making it again"
    setting.build()
    assert setting.computed == 2


def test_a_file_of_other_anchors_under_this_name_is_replaced(setting):
    """A copy by hand, say: classes and shapes fit, and only the key in the file tells."""
    first = setting.build()
    (name,) = os.listdir(setting.folder)
    setting.build(seed=1)
    (other,) = set(os.listdir(setting.folder)) - {name}
    stored = torch.load(os.path.join(setting.folder, other))
    torch.save(
        stored | {"features": stored["features"].flip(0)}, os.path.join(setting.folder, name)
    )
    assert torch.equal(setting.build().features, first.features) and setting.computed == 3


def test_a_folder_that_cannot_be_written_is_done_without(setting, tmp_path):
    (tmp_path / "file").write_text("in the way")
    setting.folder = str(tmp_path / "file" / "anchors")
    assert setting.build().labels.tolist() == [0, 1, 2]
    assert "Nothing can be cached in" in setting.said[0] and setting.said[1].endswith(
        "(not cached)"
    )


def test_no_folder_no_cache(setting):
    setting.folder = None
    assert setting.build().labels.tolist() == [0, 1, 2] and setting.said[0].endswith("(not cached)")


def test_too_few_images_are_said_once(setting):
    anchors = setting.build(4)
    assert len(anchors.labels) == 4 + 3 + 4
    assert setting.said[1:] == [
        "CRAFT: 1 classes have fewer than 4 different images and get one anchor for each"
    ]


def test_global_random_states_are_left_alone(setting):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    setting.build(2)  # a miss
    setting.build(2)  # a hit
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
