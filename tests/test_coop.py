"""CoOp: prompts against a slow construction, the published numbers, and training through the engine."""

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import TINY, check_gradients, fill, images, reference, vit_weights

from dassl.utils import UserError
from trainers.backbone import Backbone, count_tokens, unit
from trainers.coop import PromptLearner

NAMES = ["tabby cat", "golden retriever", "Boeing 737-800", "red"]


@pytest.fixture(scope="module")
def backbone():
    return Backbone(vit_weights(**TINY))


def sequence(learner):
    """All prompts at full length (C, P + L, W), prefix and all."""
    prompts, eot, prefix = learner()
    return torch.cat([prefix.expand(len(prompts), -1, -1), prompts], 1), eot


def test_coop_agrees_with_the_published_one():
    expected = reference("coop")
    case = expected["case"]
    backbone = Backbone(vit_weights(**case["clip"]))
    learner = PromptLearner(backbone, [name.replace("_", " ") for name in case["classnames"]], case["cfg"]["COOP"]["N_CTX"])
    assert {f"prompt_learner.{name}": list(p.shape) for name, p in learner.named_parameters()} == expected["parameters"]
    fill([("prompt_learner.ctx", learner.ctx)])
    logits = backbone.scale * backbone.encode_images(images(case["batch"], case["clip"]["image"])) @ unit(backbone.text(*learner())).T
    loss = F.cross_entropy(logits, torch.arange(case["batch"]) % len(case["classnames"]))
    loss.backward()
    assert torch.allclose(logits, torch.tensor(expected["logits"]), rtol=1e-4, atol=1e-5)
    assert loss.item() == pytest.approx(expected["cross_entropy"], rel=1e-4)
    check_gradients(expected["gradients"], [("prompt_learner.ctx", learner.ctx)])


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("n_ctx", [1, 4, 5])
def test_prompts_equal_a_slow_construction(backbone, n_ctx, position, per_class):
    learner = PromptLearner(backbone, NAMES, n_ctx, "", per_class, position)
    built, eot = sequence(learner)
    for i, name in enumerate(NAMES):
        tokens = backbone.tokenize([f"{'X ' * n_ctx}{name}."])
        embedded = backbone.text.embed(tokens)[0]
        ctx = learner.ctx[i] if per_class else learner.ctx
        length = count_tokens(name)
        word, rest = embedded[1 + n_ctx:1 + n_ctx + length], embedded[1 + n_ctx + length:]
        cut = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        slow = torch.cat([embedded[:1], ctx[:cut], word, ctx[cut:], rest])
        assert eot[i] == tokens.argmax(1)
        assert torch.equal(built[i, :eot[i] + 1], slow[:eot[i] + 1])


def test_shared_context_runs_once(backbone):
    """Where all classes share context vectors in front, these are in the prefix."""
    def prefix_length(**options):
        return PromptLearner(backbone, NAMES, 4, **options)()[2].shape[0]

    assert [prefix_length(position=p) for p in ("end", "middle", "front")] == [5, 3, 1]
    assert prefix_length(per_class=True) == 1


def test_start_words_set_the_number_of_vectors(backbone):
    learner = PromptLearner(backbone, NAMES, 16, "a_photo of a")
    assert learner.ctx.shape == (4, TINY["text_width"])
    texts = [f"a photo of a {name}." for name in NAMES]
    assert torch.allclose(unit(backbone.text(*learner())), backbone.encode_texts(texts), atol=1e-6)
    per_class = PromptLearner(backbone, NAMES, 16, "a photo of a", per_class=True)
    assert per_class.ctx.shape == (4, 4, TINY["text_width"])
    assert torch.allclose(unit(backbone.text(*per_class())), backbone.encode_texts(texts), atol=1e-6)


def test_random_start(backbone):
    torch.manual_seed(0)
    ctx = PromptLearner(backbone, NAMES, 50).ctx
    assert ctx.dtype == torch.float32 and ctx.std().item() == pytest.approx(0.02, rel=0.05) and abs(ctx.mean().item()) < 1e-3


def test_only_the_context_is_kept(backbone):
    learner = PromptLearner(backbone, NAMES, 4)
    assert list(learner.state_dict()) == ["ctx"]


def test_a_name_that_is_too_long_is_named(backbone):
    with pytest.raises(UserError, match="class name 'cat cat .*' with 16 context tokens takes 79 positions but the text encoder has 77"):
        PromptLearner(backbone, ["dog", " ".join(["cat"] * 60)], 16)
    PromptLearner(backbone, [" ".join(["cat"] * 58)], 16)  # just fits
