"""The encoders against clip's own modules, and against what the published prompt structures
computed.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import TINY, clip_model, images, named_tensor, vit_weights
from torch import nn

from dassl.utils import UserError
from trainers.backbone import Backbone, count_tokens, unit
from trainers.encoders import CALL_OVERHEAD, PREFIX_OVERHEAD, Block, common_prefix, length_groups

TEXTS = [
    "a photo of a cat.",
    "a photo of a golden retriever.",
    "a photo of a Boeing 737-800.",
    "a photo of a red.",
]


@pytest.fixture(scope="module")
def backbone():
    return Backbone(vit_weights(**TINY))


@pytest.fixture(scope="module")
def plain():
    """clip's own model with the same weights: 77 positions, nn.MultiheadAttention, no sharing."""
    model = clip_model(vit_weights(**TINY))
    return model.requires_grad_(False)


def plain_text(model, prompts, eot, deep=(), replace=1):
    """Features of full-length embedded prompts (N, 77, W), layer by layer."""
    x = (prompts + model.positional_embedding).permute(1, 0, 2)
    for i, block in enumerate(model.transformer.resblocks):
        if 0 < i <= len(deep):
            prompt = deep[i - 1][:, None].expand(-1, x.shape[1], -1)
            x = torch.cat([x[:replace], prompt, x[replace + len(prompt) :]])
        x = block(x)
    return (
        model.ln_final(x.permute(1, 0, 2))[torch.arange(len(prompts)), eot] @ model.text_projection
    )


def plain_image(model, pictures, prompts, deep=()):
    tower = model.visual
    x = tower.conv1(pictures).flatten(2).permute(0, 2, 1)
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], 1) + tower.positional_embedding
    x = tower.ln_pre(torch.cat([x, prompts.expand(len(x), -1, -1)], 1)).permute(1, 0, 2)
    for i, block in enumerate(tower.transformer.resblocks):
        if 0 < i <= len(deep):
            x = torch.cat([x[: -len(deep[i - 1])], deep[i - 1][:, None].expand(-1, x.shape[1], -1)])
        x = block(x)
    return tower.ln_post(x[0]) @ tower.proj


def agree(ours, theirs, inputs, rel=1e-4):
    """Values to `rel` of the largest, gradients of a random projection to 10 times that."""
    assert torch.allclose(ours, theirs, rtol=0, atol=rel * theirs.abs().max().item())
    direction = named_tensor("agree", tuple(ours.shape))
    for a, b in zip(
        *(torch.autograd.grad((out * direction).sum(), inputs) for out in (ours, theirs)),
        strict=True,
    ):
        assert (a - b).norm() <= 10 * rel * b.norm()


def test_frozen_features_equal_clips_own(backbone, plain):
    with torch.no_grad():
        for texts in (TEXTS, TEXTS[:1], ["cat", "a dog"], ["the cat sat", "the cat"]):
            assert torch.allclose(
                backbone.encode_texts(texts),
                unit(plain.encode_text(backbone.tokenize(texts))),
                atol=1e-5,
            )
        pictures = images(3, 32)
        assert torch.allclose(
            backbone.encode_images(pictures), unit(plain.encode_image(pictures)), atol=1e-5
        )


def test_frozen_encoders_build_no_graph(backbone):
    assert not backbone.image(images(1, 32)).requires_grad
    assert not backbone.text.encode_tokens(backbone.tokenize(TEXTS)).requires_grad
    assert not any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize(
    ("shared", "depth"), [(0, 0), (1, 0), (3, 0), (5, 0), (0, 2), (3, 2), (5, 2)]
)
def test_text_prompts_equal_the_plain_way(backbone, plain, shared, depth):
    tokens = backbone.tokenize(TEXTS)
    eot, n = tokens.argmax(1), 2
    context = named_tensor("context", (4, 64), 0.1).requires_grad_()
    deep = [named_tensor(f"deep{i}", (n, 64), 0.1).requires_grad_() for i in range(depth)]
    embedded = backbone.text.embed(tokens)
    full = torch.cat([embedded[:, :1], context.expand(len(tokens), -1, -1), embedded[:, 5:]], 1)
    ours = backbone.text(full[:, shared:], eot, full[0, :shared] if shared else None, deep)
    agree(ours, plain_text(plain, full, eot, deep), [context, *deep])


def test_one_prefix_per_image(backbone, plain):
    """As CoCoOp needs it: every image has a context of its own, the class names are the same."""
    tokens = backbone.tokenize(TEXTS)
    eot, embedded = tokens.argmax(1), backbone.text.embed(tokens)
    contexts = named_tensor("contexts", (3, 4, 64), 0.1).requires_grad_()
    deep = [named_tensor("deep", (4, 64), 0.1).requires_grad_()]
    prefix = torch.cat([embedded[:1, :1].expand(3, -1, -1), contexts], 1)
    ours = backbone.text(embedded[:, 5:], eot, prefix, deep)
    assert ours.shape == (3, len(TEXTS), TINY["embed"])
    theirs = [
        plain_text(plain, torch.cat([p.expand(len(TEXTS), -1, -1), embedded[:, 5:]], 1), eot, deep)
        for p in prefix
    ]
    agree(ours, torch.stack(theirs), [contexts, *deep])


@pytest.mark.parametrize("depth", [0, 2])
def test_image_prompts_equal_the_plain_way(backbone, plain, depth):
    prompts = named_tensor("visual", (3, 64), 0.1).requires_grad_()
    deep = [named_tensor(f"visual{i}", (3, 64), 0.1).requires_grad_() for i in range(depth)]
    agree(
        backbone.image(images(2, 32), prompts, deep),
        plain_image(plain, images(2, 32), prompts, deep),
        [prompts, *deep],
    )


def test_template_texts_take_deep_prompts(backbone, plain):
    """Plain texts with deep prompts only: CRAFT's template samples.

    One template shares too little to be split.
    """
    deep = [named_tensor("deep", (2, 64), 0.1).requires_grad_()]
    for texts in (TEXTS, ["red cat", "a dog ran"]):
        tokens = backbone.tokenize(texts)
        theirs = plain_text(plain, backbone.text.embed(tokens), tokens.argmax(1), deep)
        agree(backbone.text.encode_tokens(tokens, deep), theirs, deep)


def test_length_groups_cost_the_least():
    assert length_groups([3, 3, 3], 1) == [[0, 1, 2]]
    assert length_groups([2, 9, 2, 9, 3], 3) == [
        [0, 2, 4],
        [1, 3],
    ]  # 9 + 3 + 18 + 3 positions; three groups cost 4 + 3 + 18 + 9
    assert length_groups([2, 9, 2, 9, 3], 100) == [[0, 2, 4, 1, 3]]
    lengths, overhead = [5, 1, 7, 2, 7, 3, 1, 12], 4

    def cost(groups):
        return sum(len(group) * max(lengths[i] for i in group) + overhead for group in groups)

    order = sorted(range(8), key=lengths.__getitem__)
    every = (
        [order[a:b] for a, b in zip((0, *cuts), (*cuts, 8), strict=True)]
        for n in range(8)
        for cuts in itertools.combinations(range(1, 8), n)
    )
    assert cost(length_groups(lengths, overhead)) == min(map(cost, every))


@pytest.mark.parametrize("copies", [None, 3])
def test_texts_of_different_length_may_run_apart(backbone, copies, monkeypatch):
    tokens = backbone.tokenize(
        [
            "a red",
            "a tabby cat that sleeps on a warm stone",
            "a saxophone",
            "a Boeing 737-800",
            "a cat",
        ]
    )
    embedded, eot = backbone.text.embed(tokens), tokens.argmax(1)
    prefix = (
        embedded[0, :2]
        if copies is None
        else embedded[0, :2] + named_tensor("shift", (copies, 1, 64), 0.1)
    )
    deep = [named_tensor("deep", (1, 64), 0.1).requires_grad_()]
    calls, padded = [], backbone.text.padded
    monkeypatch.setattr(
        backbone.text, "padded", lambda *args: calls.append(len(args[0])) or padded(*args)
    )
    found, gradients = [], []
    for overhead in (1, 10**6):
        monkeypatch.setitem(CALL_OVERHEAD, "cpu", overhead)
        found.append(backbone.text(embedded[:, 2:], eot, prefix, deep))
        gradients.append(torch.autograd.grad(found[-1].square().sum(), deep)[0])
    assert len(calls) > 2 and calls[-1] == 5 and sum(calls) == 10
    assert torch.allclose(*found, atol=1e-5) and torch.allclose(
        *gradients, rtol=1e-4, atol=1e-3
    )  # numbers of about 50


@pytest.mark.parametrize("copies", [None, 3])
@pytest.mark.parametrize("depth", [0, 2])
def test_what_texts_share_may_run_with_each_of_them(backbone, depth, copies, monkeypatch):
    """As on a GPU, for which a call of one row is dear."""
    tokens = backbone.tokenize(TEXTS)
    eot, embedded = tokens.argmax(1), backbone.text.embed(tokens)
    context = named_tensor("context", (4, 64), 0.1).requires_grad_()
    deep = [named_tensor(f"deep{i}", (2, 64), 0.1).requires_grad_() for i in range(depth)]
    prefixes, padded = [], backbone.text.padded
    monkeypatch.setattr(
        backbone.text,
        "padded",
        lambda prompts, eot, prefix, deep: (
            prefixes.append(prefix is not None) or padded(prompts, eot, prefix, deep)
        ),
    )
    found = []
    prefix = torch.cat([embedded[0, :1], context])
    if copies:
        prefix = prefix + named_tensor("shift", (copies, 1, 64), 0.1)
    for overhead in (0, 5 * (copies or 1) * (len(TEXTS) - 1)):
        monkeypatch.setitem(PREFIX_OVERHEAD, "cpu", overhead)
        found.append(backbone.text(embedded[:, 5:], eot, prefix, deep))
    assert all(prefixes[: len(prefixes) // 2]) and not any(prefixes[len(prefixes) // 2 :])
    agree(*found, [context, *deep])
    too_long = [named_tensor("long", (5, 64))]
    with pytest.raises(UserError, match="a deep prompt of 5 tokens cannot replace 4 tokens"):
        backbone.text(embedded[:, 5:], eot, prefix, too_long)


def test_positions_behind_the_end_do_not_matter(backbone):
    tokens = backbone.tokenize(TEXTS)
    garbage = tokens.clone()
    garbage[torch.arange(77) > tokens.argmax(1)[:, None]] = 320
    assert torch.equal(backbone.text.encode_tokens(tokens), backbone.text.encode_tokens(garbage))


def test_encoders_carry_double_precision():
    weights = {name: value.double() for name, value in vit_weights(**TINY).items()}
    text = Backbone(weights).text.double()
    context = named_tensor("context", (2, 64), 0.1).double().requires_grad_()
    embedded, eot = (
        text.embed(torch.tensor([[1, 5, 6, 9, 49407], [1, 5, 6, 49407, 0]])),
        torch.tensor([4, 3]),
    )

    def features(ctx):
        return text(embedded[:, 3:], eot, torch.cat([embedded[0, :1], ctx]))

    assert torch.autograd.gradcheck(features, context, fast_mode=True)


def test_half_precision_matrices_keep_float32_norms():
    backbone = Backbone(vit_weights(**TINY), "fp16")
    assert backbone.text.dtype == backbone.image.dtype == torch.float16
    assert (
        backbone.text.ln_final_weight.dtype
        == backbone.image.blocks[0].ln_1_weight.dtype
        == torch.float32
    )
    full = Backbone(vit_weights(**TINY))
    assert torch.allclose(
        backbone.encode_images(images(2, 32)), full.encode_images(images(2, 32)), atol=5e-3
    )
    assert torch.allclose(backbone.encode_texts(TEXTS), full.encode_texts(TEXTS), atol=5e-3)


def test_common_prefix():
    assert common_prefix(torch.tensor([[1, 2, 3, 9, 0], [1, 2, 4, 5, 9]])) == 2
    assert (
        common_prefix(torch.tensor([[1, 2, 3, 9, 0], [1, 2, 3, 9, 0]])) == 3
    )  # the end-of-text token stays out
    assert common_prefix(torch.tensor([[1, 2, 9, 0]])) == 2


def test_too_deep_prompts_are_refused(backbone):
    prompts = torch.zeros(2, 64)
    with pytest.raises(
        UserError,
        match=(
            "prompts for 4 layers do not fit an encoder of 3 layers: set the prompt depth to 3 or "
            "less"
        ),
    ):
        backbone.image(images(1, 32), prompts, [prompts] * 3)
    with pytest.raises(UserError, match="cannot replace"):
        backbone.image(images(1, 32), None, [prompts])


def test_deep_prompts_never_replace_the_end_of_a_text(backbone):
    """ "cat" has one token before its end: with two replaced, all such texts would have the same
    features.
    """
    deep, tokens = [torch.zeros(2, 64)], backbone.tokenize(["cat", "a long red dog"])
    for refused in (
        lambda: backbone.text.encode_tokens(tokens, deep),
        lambda: backbone.text.check_texts(tokens, deep),
    ):
        with pytest.raises(
            UserError,
            match=(
                "a deep prompt of 2 tokens cannot replace 1 tokens: use fewer prompts per layer, "
                "or, .* a longer template"
            ),
        ):
            refused()
    backbone.text.check_texts(tokens[1:], deep)
    backbone.text.check_texts(
        backbone.tokenize(["a photo of cat", "a photo of dog"]), [torch.zeros(3, 64)]
    )


def test_block_equals_torch(backbone):
    """One block on its own, masked and for one position only."""
    block, x = backbone.image.blocks[0], named_tensor("x", (2, 5, 64))
    attention = nn.MultiheadAttention(64, 1, batch_first=True)
    attention.in_proj_weight.data, attention.in_proj_bias.data = (
        block.attn_in_proj_weight,
        block.attn_in_proj_bias,
    )
    attention.out_proj.weight.data, attention.out_proj.bias.data = (
        block.attn_out_proj_weight,
        block.attn_out_proj_bias,
    )
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    h = F.layer_norm(x, (64,), block.ln_1_weight, block.ln_1_bias)
    y = x + attention(h, h, h, attn_mask=~visible)[0]
    h = F.linear(
        F.layer_norm(y, (64,), block.ln_2_weight, block.ln_2_bias),
        block.mlp_c_fc_weight,
        block.mlp_c_fc_bias,
    )
    y = y + F.linear(h * torch.sigmoid(1.702 * h), block.mlp_c_proj_weight, block.mlp_c_proj_bias)
    assert isinstance(block, Block)
    assert torch.allclose(block(x, causal=True)[0], y, atol=1e-5)
    assert torch.allclose(block(x, mask=visible)[0], y, atol=1e-5)
    only = torch.tensor([2, 4])
    assert torch.allclose(
        block(x, mask=visible[only][:, None, None], only=only)[0][:, 0],
        y[torch.arange(2), only],
        atol=1e-5,
    )


def test_names_are_counted_as_tokenized():
    assert [count_tokens(name) for name in ("tabby cat", "Boeing 737-800", "red")] == [2, 8, 1]
