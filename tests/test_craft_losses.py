"""CRAFT's losses against hand-computed values, slow loops over pairs, and degenerate batches."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import named_tensor

from trainers.craft.losses import static_alignment, stochastic_alignment

SCALE = 7.0


def unit(name, *shape):
    return F.normalize(named_tensor(name, shape).double(), dim=-1)


def slow_static(text, labels, anchors, anchor_labels, scale):
    total = 0.0
    for t, label in zip(text, labels, strict=True):
        weights = [math.exp(scale * float(t @ a)) for a in anchors]
        own = sum(w for w, owner in zip(weights, anchor_labels, strict=True) if owner == label)
        total -= math.log(own / sum(weights))
    return total / len(text)


def slow_stochastic(image, text, labels, scale, targets, directions):
    def one_way(rows, columns):
        total = 0.0
        for i, row in enumerate(rows):
            weights = [math.exp(scale * float(row @ column)) for column in columns]
            positives = [
                j
                for j in range(len(rows))
                if (labels[i] == labels[j] if targets == "label" else i == j)
            ]
            total -= sum(math.log(weights[j] / sum(weights)) for j in positives) / len(positives)
        return total / len(rows)

    there = one_way(image, text)
    return there if directions == "image_to_text" else (there + one_way(text, image)) / 2


def test_static_by_hand():
    """One text, two anchors of its class at cosine 1 and 0, one of another at -1, scale 1: -log((e
    + 1) / (e + 1 + 1/e)).
    """
    text, anchors = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss = static_alignment(text, torch.tensor([4]), anchors, torch.tensor([4, 4, 7]), 1.0)
    assert loss.item() == pytest.approx(math.log((math.e + 1 + 1 / math.e) / (math.e + 1)))


def test_stochastic_by_hand():
    """Orthogonal pairs that match exactly, scale 1: every row is -log(e / (e + 1)), both ways."""
    eye = torch.eye(2)
    for directions in ("both", "image_to_text"):
        loss = stochastic_alignment(eye, eye, torch.tensor([3, 5]), 1.0, "label", directions)
        assert loss.item() == pytest.approx(math.log((math.e + 1) / math.e))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_class", [1, 3])
def test_static_equals_the_slow_loop(per_class, dtype):
    text, labels = unit("text", 6, 8).to(dtype), torch.tensor([0, 2, 2, 4, 1, 0])
    anchors, owners = (
        unit("anchors", 5 * per_class, 8).to(dtype),
        torch.arange(5).repeat_interleave(per_class),
    )
    loss = static_alignment(text, labels, anchors, owners, SCALE)
    assert loss.dtype == dtype and loss.item() == pytest.approx(
        slow_static(text, labels, anchors, owners, SCALE), rel=1e-5
    )


def test_static_with_one_anchor_per_class_is_cross_entropy():
    text, labels, anchors = (
        unit("text", 6, 8),
        torch.tensor([0, 2, 2, 4, 1, 0]),
        unit("anchors", 5, 8),
    )
    loss = static_alignment(text, labels, anchors, torch.arange(5), SCALE)
    assert torch.allclose(loss, F.cross_entropy(SCALE * text @ anchors.T, labels))


@pytest.mark.parametrize("targets", ["label", "index"])
@pytest.mark.parametrize("directions", ["both", "image_to_text"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 0], [2, 2, 1, 1, 1]])
def test_stochastic_equals_the_slow_loop(labels, targets, directions):
    image, text, labels = unit("image", 5, 8), unit("text", 5, 8), torch.tensor(labels)
    loss = stochastic_alignment(image, text, labels, SCALE, targets, directions)
    assert loss.item() == pytest.approx(
        slow_stochastic(image, text, labels, SCALE, targets, directions), rel=1e-6
    )


def test_label_and_index_targets_agree_when_labels_differ():
    image, text, labels = unit("image", 5, 8), unit("text", 5, 8), torch.tensor([7, 1, 3, 0, 2])
    assert torch.allclose(
        *(
            stochastic_alignment(image, text, labels, SCALE, targets)
            for targets in ("label", "index")
        )
    )


@pytest.mark.parametrize("targets", ["label", "index"])
def test_the_order_of_a_batch_does_not_matter(targets):
    image, text, labels, order = (
        unit("image", 5, 8),
        unit("text", 5, 8),
        torch.tensor([0, 1, 0, 3, 0]),
        torch.tensor([3, 0, 4, 1, 2]),
    )
    losses = [
        stochastic_alignment(image[o], text[o], labels[o], SCALE, targets)
        for o in (torch.arange(5), order)
    ]
    assert torch.allclose(*losses)
    anchors = unit("anchors", 4, 8)
    assert torch.allclose(
        *(
            static_alignment(text[o], labels[o], anchors, torch.arange(4), SCALE)
            for o in (torch.arange(5), order)
        )
    )


def test_repeated_classes_are_one_positive_set():
    """With class texts, columns repeat: the gradient is that of the total probability of the class
    in the batch.
    """
    image, classes, labels = (
        unit("image", 5, 8),
        unit("classes", 3, 8),
        torch.tensor([0, 1, 0, 2, 0]),
    )
    image.requires_grad_()
    logits = SCALE * image @ classes[labels].T
    together = (
        -logits.log_softmax(1).masked_fill(labels[:, None] != labels, -math.inf).logsumexp(1).mean()
    )
    loss = stochastic_alignment(image, classes[labels], labels, SCALE, "label", "image_to_text")
    assert torch.allclose(*(torch.autograd.grad(value, image)[0] for value in (loss, together)))


@pytest.mark.parametrize("targets", ["label", "index"])
@pytest.mark.parametrize("directions", ["both", "image_to_text"])
@pytest.mark.parametrize("size", [1, 4])
def test_a_batch_of_one_class_gives_zero(size, targets, directions):
    image = unit("image", size, 8).float().requires_grad_()
    text = unit("text", 1, 8).float().expand(size, -1).clone().requires_grad_()
    loss = stochastic_alignment(image, text, torch.full((size,), 6), 100.0, targets, directions)
    loss.backward()
    assert loss.item() == 0
    assert image.grad.count_nonzero() == text.grad.count_nonzero() == 0  # and hence not NaN


def test_extreme_scales_stay_finite():
    image, text = (
        unit("image", 4, 8).float().requires_grad_(),
        unit("text", 4, 8).float().requires_grad_(),
    )
    labels = torch.tensor([0, 1, 1, 2])
    loss = stochastic_alignment(image, text, labels, 1e4) + static_alignment(
        text, labels, unit("a", 3, 8).float(), torch.arange(3), 1e4
    )
    loss.backward()
    assert loss.isfinite() and image.grad.isfinite().all() and text.grad.isfinite().all()


def test_gradients_are_those_of_the_values():
    image, text = unit("image", 4, 6).requires_grad_(), unit("text", 4, 6).requires_grad_()
    labels, anchors, owners = (
        torch.tensor([0, 1, 0, 2]),
        unit("anchors", 5, 6),
        torch.tensor([0, 0, 1, 2, 2]),
    )
    scale = torch.tensor(5.0, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t, s: static_alignment(t, labels, anchors, owners, s), (text, scale)
    )
    for targets in ("label", "index"):
        assert torch.autograd.gradcheck(
            lambda v, u, s, kind=targets: stochastic_alignment(v, u, labels, s, kind),
            (image, text, scale),
        )


def test_half_precision_features_are_compared_in_float32():
    image, text, labels = (
        unit("image", 4, 8).bfloat16(),
        unit("text", 4, 8).bfloat16(),
        torch.tensor([0, 1, 2, 1]),
    )
    expected = stochastic_alignment(image.double(), text.double(), labels, SCALE).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = stochastic_alignment(image, text, labels, SCALE)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, rel=1e-5)
