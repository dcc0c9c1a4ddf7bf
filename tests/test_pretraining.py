"""The parts of the small CLIP's pretraining that imitate a teacher, on numbers computed by hand."""

import json
import random
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch import nn

from tools import pretrain_teacher
from tools.pretrain_captions import Look
from tools.pretrain_clip import Bank, Teacher, build, draw_batch, load, looks, ranks, save

ITEMS = {"1F600": "grinning face", "kite": "kite", "drum": "drum", "pear": "pear", "spoon": "spoon"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    """Eight pictures in one colour, two in colours: five items, each drawn by two artists."""
    folder = tmp_path_factory.mktemp("bank")
    rng = np.random.default_rng(0)
    np.save(folder / "mono.npy", rng.integers(0, 255, (8, 12, 12), dtype=np.uint8))
    np.save(folder / "colour.npy", rng.integers(0, 255, (2, 12, 12, 3), dtype=np.uint8))
    rows = [
        {"item": item, "artist": artist, "style": "line"}
        for artist in ("tabler", "lucide")
        for item in ITEMS
    ]
    (folder / "index.json").write_text(json.dumps(rows))
    items = {item: {"label": label, "tags": []} for item, label in ITEMS.items()}
    (folder / "items.json").write_text(json.dumps(items))
    return Bank(folder)


def test_ranks_are_shares_of_pictures_and_of_items():
    v = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, -0.8]])
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # The fourth picture is nearer to the first item's words, and is not the nearest to the third.
    assert ranks(v, w) == (75.0, 50.0)


def test_the_teachers_terms_are_cosines():
    last = nn.LayerNorm(3)
    stored = {
        "embedding": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]).half(),
        "features": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, -0.8]]).half(),
    }
    teacher = Teacher(stored, last)
    x = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, -1.0]])
    seen = last(x)
    terms = teacher(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [2, 0])
    # Cosines 0.6 and 0.
    assert terms["embedding"].item() == pytest.approx(1 - 0.3, abs=1e-3)
    mapped = seen @ teacher.map.weight.t() + teacher.map.bias
    cosines = (mapped * stored["features"][[2, 0]].float()).sum(1) / mapped.square().sum(1).sqrt()
    assert terms["features"].item() == pytest.approx(1 - cosines.mean().item(), abs=1e-3)


def test_a_share_of_the_looks_is_the_artists_own():
    rows, mono = [{"style": "solid"}] * 400, torch.ones(400, dtype=torch.bool)
    assert looks(rows, mono, random.Random(0), 1.0) == [Look("solid")] * 400
    own = [look == Look("solid") for look in looks(rows, mono, random.Random(0), 0.5)]
    # Of the other half some draw black ink on white paper, too.
    assert 200 < sum(own) < 300


def test_a_batch_knows_which_pictures_its_teacher_saw(bank):
    args = Namespace(pairs=2, singles=0, image=16)
    bank.held_out, bank.singles = [], []
    batch = draw_batch(bank, args, 1.0, random.Random(1), torch.Generator().manual_seed(1))
    items = [bank.index[number]["item"] for number in batch.numbers]
    assert items[0] == items[1] != items[2] == items[3] and batch.images.shape == (4, 3, 16, 16)
    artists = [bank.index[number]["artist"] for number in batch.numbers]
    assert artists[0] != artists[1] and artists[2] != artists[3]


def test_the_head_places_a_picture_near_its_words_and_learns_nothing_from_held_out_items(bank):
    torch.manual_seed(0)
    words = torch.eye(8)[: len(ITEMS)]
    numbers = {item: place for place, item in enumerate(bank.items)}
    items = torch.tensor([numbers[row["item"]] for row in bank.index])
    features = 3 * torch.eye(6)[items] + 0.1 * torch.randn(len(items), 6)
    bank.held_out = ["spoon"]
    taught = items != numbers["spoon"]
    heads = []
    for held_out in (0.0, 5.0):
        seen = torch.where(taught[:, None], features, held_out)
        heads.append(pretrain_teacher.train_head(seen, bank, words, 2000, seed=0))
    v, again = (pretrain_teacher.embed(head, features) for head in heads)
    assert torch.equal(v, again)
    assert torch.allclose(v.norm(dim=1), torch.ones(len(v)))
    known = words[: numbers["spoon"]]  # the last, of which the head never heard
    assert ((v @ known.t()).argmax(1) == items)[taught].all()


def test_components_keep_cosines_and_are_cut():
    torch.manual_seed(0)
    features = torch.randn(900, 20) @ torch.randn(20, 300) / 20**0.5
    features[0, 0] = 1e6
    result = pretrain_teacher.components(features, seed=0)
    assert result.shape == (900, pretrain_teacher.COMPONENTS)
    cut = torch.nn.functional.normalize(features.clamp(-6, 6), dim=1)
    assert torch.allclose(result[1:] @ result[1:].t(), cut[1:] @ cut[1:].t(), atol=1e-2)
    assert torch.allclose(result.norm(dim=1), torch.ones(900), atol=1e-4)


def test_a_model_is_saved_in_a_new_folder_and_goes_on_from_there(tmp_path):
    sizes = {"embed": 8, "image": 16, "layers": 1, "vision_width": 64, "text_width": 64}
    args = Namespace(patch=8, **sizes)
    torch.manual_seed(0)
    static = torch.randn(700, 80)
    model, other = build(static, args), build(static, args)
    save(model, tmp_path / "new/clip.pt")
    load(other, tmp_path / "new/clip.state")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
