"""CoOp: prompts against a slow construction, the published numbers, and training through the
engine.
"""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_clip import TINY, check_gradients, fill, images, reference, vit_weights
from tiny_run import CLASSES, make_trainer

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
    learner = PromptLearner(
        backbone,
        [name.replace("_", " ") for name in case["classnames"]],
        case["cfg"]["COOP"]["N_CTX"],
    )
    assert {
        f"prompt_learner.{name}": list(p.shape) for name, p in learner.named_parameters()
    } == expected["parameters"]
    fill([("prompt_learner.ctx", learner.ctx)])
    logits = (
        backbone.scale
        * backbone.encode_images(images(case["batch"], case["clip"]["image"]))
        @ unit(backbone.text(*learner())).T
    )
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
        word, rest = embedded[1 + n_ctx : 1 + n_ctx + length], embedded[1 + n_ctx + length :]
        cut = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        slow = torch.cat([embedded[:1], ctx[:cut], word, ctx[cut:], rest])
        assert eot[i] == tokens.argmax(1)
        assert torch.equal(built[i, : eot[i] + 1], slow[: eot[i] + 1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": "middle"},
        {"position": "front"},
        {"per_class": True},
        {"per_class": True, "position": "middle"},
    ],
)
def test_start_words_of_several_tokens_keep_their_rest(backbone, options):
    """Published: the first M tokens are learned, the other tokens of the words stay between them
    and the name.
    """
    init = "a 2x photo of a"
    assert count_tokens(init) == 6
    built, eot = sequence(PromptLearner(backbone, NAMES, 5, init, **options))
    for i, name in enumerate(NAMES):
        tokens = backbone.tokenize([f"{init} {name}."])
        embedded, length = backbone.text.embed(tokens)[0], count_tokens(name)
        ctx, word, end = embedded[1:6], embedded[7 : 7 + length], embedded[7 + length :]
        cut = {"end": 5, "middle": 2, "front": 0}[options.get("position", "end")]
        between = [ctx[cut:], embedded[6:7], word] if cut == 5 else [word, ctx[cut:], embedded[6:7]]
        slow = torch.cat([embedded[:1], ctx[:cut], *between, end])
        assert eot[i] == tokens.argmax(1) and torch.equal(
            built[i, : eot[i] + 1], slow[: eot[i] + 1]
        )


def test_shared_context_runs_once(backbone):
    """Where all classes share context vectors in front, these are in the prefix."""

    def prefix_length(**options):
        return PromptLearner(backbone, NAMES, 4, **options)()[2].shape[0]

    assert [prefix_length(position=p) for p in ("end", "middle", "front")] == [5, 3, 1]
    assert prefix_length(per_class=True) == 1


def test_start_words_set_the_number_of_vectors(backbone, capsys):
    learner = PromptLearner(backbone, NAMES, 16, "a_photo of a")
    assert (
        capsys.readouterr().out
        == "CTX_INIT 'a_photo of a' sets the number of context vectors to 4: N_CTX 16 is not used\n"
    )
    assert learner.ctx.shape == (4, TINY["text_width"])
    texts = [f"a photo of a {name}." for name in NAMES]
    assert torch.allclose(unit(backbone.text(*learner())), backbone.encode_texts(texts), atol=1e-6)
    per_class = PromptLearner(backbone, NAMES, 16, "a photo of a", per_class=True)
    assert per_class.ctx.shape == (4, 4, TINY["text_width"])
    assert torch.allclose(
        unit(backbone.text(*per_class())), backbone.encode_texts(texts), atol=1e-6
    )


def test_random_start(backbone):
    torch.manual_seed(0)
    ctx = PromptLearner(backbone, NAMES, 50).ctx
    assert (
        ctx.dtype == torch.float32
        and ctx.std().item() == pytest.approx(0.02, rel=0.05)
        and abs(ctx.mean().item()) < 1e-3
    )


def test_only_the_context_is_kept(backbone):
    learner = PromptLearner(backbone, NAMES, 4)
    assert list(learner.state_dict()) == ["ctx"]


def test_a_name_that_is_too_long_is_named(backbone):
    with pytest.raises(
        UserError,
        match=(
            "class name 'cat cat .*' with 16 context tokens takes 79 positions but the text "
            "encoder has 77"
        ),
    ):
        PromptLearner(backbone, ["dog", " ".join(["cat"] * 60)], 16)
    PromptLearner(backbone, [" ".join(["cat"] * 58)], 16)  # just fits


# Through the engine


def some_images(trainer):
    return next(iter(trainer.test_loader))["img"]


def test_training_changes_the_context_and_keeps_kilobytes(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp")
    before = trainer.model.ctx.detach().clone()
    trainer.train()
    assert not torch.equal(before, trainer.model.ctx)
    path = tmp_path / "output" / "prompt_learner" / "model.pth.tar-2"
    assert list(torch.load(path, weights_only=True)["state_dict"]) == ["ctx"]
    assert path.stat().st_size < 25_000  # random states and the configuration, mostly
    again = make_trainer(tmp_path / "again", "CoOp")
    again.train()
    assert torch.equal(again.model.ctx, trainer.model.ctx)  # the same seed, to the bit


def test_a_step_lowers_the_loss_of_its_batch(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp")
    batch = next(iter(trainer.train_loader_x))
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 100
    losses = [trainer.forward_backward(batch) for _ in range(4)]
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert set(losses[0]) == {"loss", "acc"}
    assert 0 <= losses[0]["acc"] <= 100


def test_an_evaluation_encodes_class_texts_once(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "CoOp")
    calls = []
    text_features = trainer.clip.text_features
    monkeypatch.setattr(trainer.clip, "text_features", lambda: calls.append(1) or text_features())
    first = trainer.test()
    assert len(calls) == 1 and len(trainer.test_loader) == 3
    trainer.model.ctx.data += 1
    trainer.test()
    assert len(calls) == 2  # and not from a stale cache
    assert 0 <= first <= 100


def test_own_checkpoints_load(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "CoOp")
    trainer.train()
    other = make_trainer(tmp_path, "CoOp", "SEED", 2)
    capsys.readouterr()
    other.load_model(str(tmp_path / "output"), epoch=2)
    assert torch.equal(other.model.ctx, trainer.model.ctx)
    assert "Ignored" not in capsys.readouterr().out
    assert torch.equal(
        other.model_inference(some_images(other)), trainer.model_inference(some_images(trainer))
    )


def published(folder, **state):
    """A checkpoint as CoOp's own code writes it."""
    path = folder / "published" / "prompt_learner" / "model.pth.tar-50"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "state_dict": state,
            "epoch": 50,
            "optimizer": None,
            "scheduler": None,
            "val_result": None,
        },
        path,
    )
    return str(folder / "published")


def test_published_checkpoints_load(tmp_path, capsys):
    """Token buffers of other classes, and half precision, do not matter."""
    trainer = make_trainer(tmp_path, "CoOp")
    ctx = torch.randn(4, TINY["text_width"]).half()
    folder = published(
        tmp_path, ctx=ctx, token_prefix=torch.zeros(9, 1, 64), token_suffix=torch.zeros(9, 72, 64)
    )
    capsys.readouterr()
    trainer.load_model(folder, epoch=50)
    out = capsys.readouterr().out
    assert torch.equal(trainer.model.ctx, ctx.float())
    assert "since not learned: token_prefix, token_suffix" in out and "epoch = 50" in out


def test_nothing_to_load_is_said(tmp_path, capsys):
    make_trainer(tmp_path, "CoOp").load_model("")
    assert "load_model() is skipped" in capsys.readouterr().out


def test_checkpoints_that_do_not_fit(tmp_path):
    trainer = make_trainer(tmp_path, "CoOp", "TRAINER.COOP.CSC", True)

    def error(folder, epoch=50):
        with pytest.raises(UserError) as caught:
            trainer.load_model(folder, epoch)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "'ctx' is (9, 4, 64) there and (4, 4, 64) here" in error(
        published(tmp_path, ctx=torch.zeros(9, 4, 64))
    )
    assert "lacks 'ctx': use the trainer that wrote it" in error(
        published(tmp_path, prompts=torch.zeros(4, 64))
    )
    state = {"ctx": torch.zeros(4, 4, 64), "meta_net.linear1.bias": torch.zeros(2)}
    assert "has 'meta_net.linear1.bias', which this trainer does not learn" in error(
        published(tmp_path, **state)
    )
    assert "model.pth.tar-7" in error(published(tmp_path), 7)
    path = tmp_path / "published" / "prompt_learner" / "model.pth.tar-50"
    path.write_bytes(path.read_bytes()[:200])
    assert str(path) in error(str(tmp_path / "published"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "TRAINER.COOP.PREC",
            "fp16",
            "TRAINER.COOP.PREC fp16 needs a CUDA device: set TRAINER.COOP.PREC to fp32 or amp",
        ),
        (
            "TRAINER.COOP.PREC",
            "fp8",
            "TRAINER.COOP.PREC is 'fp8': choose one of fp32, fp16, bf16, amp",
        ),
        (
            "TRAINER.COOP.CLASS_TOKEN_POSITION",
            "back",
            "TRAINER.COOP.CLASS_TOKEN_POSITION is 'back': choose one of end, middle, front",
        ),
        ("TRAINER.COOP.N_CTX", 0, "TRAINER.COOP.N_CTX is 0: set it to 1 or more"),
        (
            "INPUT.SIZE",
            (64, 64),
            "INPUT.SIZE is (64, 64) but .* reads 32 x 32 pixels: set INPUT.SIZE to (32, 32)",
        ),
    ],
)
def test_wrong_options(tmp_path, key, value, message):
    with pytest.raises(
        UserError, match="^" + message.replace("(", r"\(").replace(")", r"\)") + "$"
    ):
        make_trainer(tmp_path, "CoOp", key, value)


def test_class_names_may_have_braces_and_templates_only_one_pair(tmp_path):
    clip = make_trainer(tmp_path, "ZeroshotCLIP").clip

    def model(template):
        return type(clip)(clip.backbone, ["{}", "{x}_{0}"], clip.options, [template])

    assert model("a {}!").class_texts() == ["a {}!", "a {x} {0}!"]
    assert model("a {}!").ensemble_features(["a {}.", "the {}."]).shape == (2, 32)
    for template in ("a {} of {x}", "a {{}}", "a {0}", "a"):
        with pytest.raises(
            UserError,
            match=f"the template '{template}' needs one {{}} where the class name goes".replace(
                "{", r"\{"
            ),
        ):
            model("a {}!").ensemble_features(["a {}.", template])
        with pytest.raises(
            UserError,
            match=(
                "needs one {} where the class name goes, and no other braces: correct the data "
                "set's"
            ),
        ):
            model(template).class_texts()


def test_pictures_without_a_transform_are_refused(tmp_path):
    with pytest.raises(
        UserError,
        match=(
            "INPUT.NO_TRANSFORM is True, but CLIP reads pictures of one size as numbers: set it to "
            "False"
        ),
    ):
        make_trainer(tmp_path, "CoOp", "INPUT.NO_TRANSFORM", True)


def test_mixed_precision_on_a_cpu_is_close(tmp_path):
    full, mixed = (
        make_trainer(tmp_path, "CoOp", "TRAINER.COOP.PREC", precision)
        for precision in ("fp32", "amp")
    )
    pictures = some_images(full)
    assert torch.allclose(full.model_inference(pictures), mixed.model_inference(pictures), atol=0.1)
    mixed.train()
    assert mixed.model.ctx.dtype == torch.float32 and mixed.model.ctx.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        ("CLASS_TOKEN_POSITION", "middle"),
        ("CLASS_TOKEN_POSITION", "front"),
        ("CSC", True),
        ("CTX_INIT", "a photo of a"),
    ],
)
def test_every_variant_trains(tmp_path, options):
    trainer = make_trainer(
        tmp_path, "CoOp", f"TRAINER.COOP.{options[0]}", options[1], "OPTIM.MAX_EPOCH", 1
    )
    before = trainer.model.ctx.detach().clone()
    trainer.train()
    assert (trainer.model.ctx != before).flatten(-1 if before.dim() == 2 else 1).any(-1).all()


def test_initial_weights(tmp_path):
    torch.save({"state_dict": {"ctx": torch.full((4, 64), 0.5)}}, tmp_path / "start.pt")
    trainer = make_trainer(tmp_path, "CoOp", "MODEL.INIT_WEIGHTS", str(tmp_path / "start.pt"))
    assert (trainer.model.ctx == 0.5).all()


# Zero-shot CLIP


def test_zero_shot_compares_with_the_first_template(tmp_path):
    trainer = make_trainer(tmp_path, "ZeroshotCLIP")
    pictures = some_images(trainer)
    backbone = Backbone(vit_weights(**TINY))
    text = backbone.encode_texts([f"a picture of a {name.replace('_', ' ')}." for name in CLASSES])
    assert torch.allclose(
        trainer.model_inference(pictures),
        backbone.scale * backbone.encode_images(pictures) @ text.T,
        atol=1e-5,
    )


def test_zero_shot_training_is_a_test(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "ZeroshotCLIP")
    trainer.load_model(str(tmp_path / "nothing"), epoch=3)
    trainer.train()
    out = capsys.readouterr().out
    assert "ZeroshotCLIP learns nothing" in out and "* accuracy:" in out


def test_classes_that_only_the_tokenizer_reads_as_the_same_are_named(tmp_path, capsys):
    for name in ("t-shirt", "t - shirt", "Dog", "dog"):
        for part, i in (("train", 0), ("train", 1), ("test", 2)):
            path = tmp_path / "own" / part / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (len(name) * 20, 50 * i, 0)).save(path)
    make_trainer(
        tmp_path, "CoOp", "DATASET.ROOT", str(tmp_path / "own"), "DATASET.NAME", "ImageFolder"
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "cannot tell them" in line]
    assert len(said) == 2  # the data set's, of Dog and dog, and the trainer's
    assert "'Dog' and 'dog'" in said[0] and "t-shirt" not in said[0]
    assert "the names of 1 group(s) of classes as the same words" in said[1]
    assert "'t - shirt' and 't-shirt'; rename" in said[1]
