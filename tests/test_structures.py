"""Every prompt structure: the published numbers, CRAFT switched off, checkpoints, resuming, and
what users get wrong.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_clip import TINY, check_gradients, fill, images, named_tensor, reference, vit_weights
from tiny_run import CLASSES, STRUCTURES, TinyNoise, make_trainer

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from tools.export import contents
from tools.trained import Trained
from trainers import base
from trainers.backbone import Backbone
from trainers.craft.losses import static_alignment, stochastic_alignment
from trainers.promptsrc import epoch_weights
from trainers.step import Features, Step
from trainers.templates import SEVEN, SIXTY
from trainers.views import encode_training_images_once

LEARNERS = tuple(STRUCTURES)
OFF = ("TRAINER.CRAFT.LAMBDA_STATIC", 0.0, "TRAINER.CRAFT.LAMBDA_STOCHASTIC", 0.0)


@DATASET_REGISTRY.register()
class ReferenceNames(TinyNoise):
    """TinyNoise's pictures under the class names of the reference files."""

    templates = ("a photo of a {}.",)
    names = tuple(reference("coop")["case"]["classnames"])


def published_case(name, trainer, folder, *options):
    """The trainer of a reference file with its parameters filled, {published name: parameter}, and
    the file.
    """
    expected = reference(name)
    case = expected["case"]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(vit_weights(**case["clip"]), folder / "clip.pt")
    node = STRUCTURES[trainer.removeprefix("Craft")]
    given = [
        word
        for key, value in case["cfg"][node].items()
        for word in (f"TRAINER.{node}.{key}", value)
    ]
    built = make_trainer(
        folder,
        trainer,
        "DATASET.NAME",
        "ReferenceNames",
        "INPUT.SIZE",
        (case["clip"]["image"],) * 2,
        *given,
        *options,
    )
    prefix = "prompt_learner." if built.model_name == "prompt_learner" and trainer != "VPT" else ""
    parameters = {prefix + key: value for key, value in built.model.named_parameters()}
    shapes = {key: list(value.shape) for key, value in parameters.items()}
    assert shapes == expected.get("parameters", shapes)
    fill(parameters.items())
    return built, parameters, expected


@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        ("coop", "CoOp"),
        ("cocoop", "CoCoOp"),
        ("vpt", "VPT"),
        ("ivlp", "IVLP"),
        ("maple", "MaPLe"),
        ("promptsrc", "PromptSRC"),
    ],
)
def test_agrees_with_the_published_one(tmp_path, name, trainer):
    trainer, parameters, expected = published_case(name, trainer, tmp_path)
    case = expected["case"]
    logits = trainer.clip.features(images(case["batch"], case["clip"]["image"])).logits()
    loss = F.cross_entropy(logits, torch.arange(case["batch"]) % logits.shape[1])
    loss.backward()
    assert torch.allclose(logits, torch.tensor(expected["logits"]), rtol=1e-4, atol=1e-4)
    assert loss.item() == pytest.approx(expected["cross_entropy"], rel=1e-4)
    check_gradients(expected["gradients"], parameters.items())


def test_promptsrcs_training_terms_agree_with_the_published_ones(tmp_path):
    trainer, parameters, expected = published_case("promptsrc", "PromptSRC", tmp_path)
    case = expected["case"]
    pictures, labels = images(case["batch"], case["clip"]["image"]), torch.arange(case["batch"])
    terms, published = (
        loss_terms(trainer, pictures, labels),
        expected["promptsrc_terms"],
    )
    for ours, theirs in {
        "cross_entropy": "cross_entropy",
        "scl_text": "text_l1_x25",
        "scl_image": "image_l1_x10",
        "scl_logits": "logits_kl",
    }.items():
        assert terms[ours].item() == pytest.approx(published[theirs], rel=1e-4), ours
    total = sum(terms.values())
    assert total.item() == pytest.approx(published["total"], rel=1e-4)
    total.backward()
    check_gradients(expected["promptsrc_gradients"], parameters.items())


def test_craft_on_maple_agrees_with_the_authors_release(tmp_path):
    """Template text samples, targets by index, image to text only, one anchor per class."""
    trainer, parameters, expected = published_case(
        "craft_maple",
        "CraftMaPLe",
        tmp_path,
        "TRAINER.CRAFT.TEXT_SAMPLES",
        "template",
        "TRAINER.CRAFT.STOCHASTIC_TARGETS",
        "index",
        "TRAINER.CRAFT.STOCHASTIC_DIRECTIONS",
        "image_to_text",
        "TRAINER.CRAFT.LAMBDA_STATIC",
        1.0,
        "TRAINER.CRAFT.LAMBDA_STOCHASTIC",
        1.0,
    )
    case = expected["case"]
    labels = torch.tensor(case["labels"])
    anchors = F.normalize(
        named_tensor("static-image-anchors", (len(case["classnames"]), trainer.backbone.embed_dim)),
        dim=1,
    )
    trainer.anchors.features, trainer.anchors.labels = anchors, torch.arange(len(anchors))
    pictures = images(len(labels), case["clip"]["image"])
    terms = loss_terms(trainer, pictures, labels)
    for ours, theirs in {
        "cross_entropy": "cross_entropy_text",
        "craft_static": "static_image_anchor_loss",
        "craft_stochastic": "stochastic_index_image_to_text_loss",
    }.items():
        assert terms[ours].item() == pytest.approx(expected[theirs], rel=1e-4), ours
    sum(terms.values()).backward()
    check_gradients(expected["gradients"], parameters.items())


def loss_terms(trainer, pictures, labels):
    return trainer.loss_terms(Step(trainer.clip, pictures, labels, trainer.clip.features(pictures)))


def trained(folder, name, *options):
    trainer = make_trainer(folder, name, *options)
    trainer.train()
    return trainer


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", LEARNERS)
def test_craft_without_weights_is_the_baseline_to_the_bit_at_every_step(tmp_path, name):
    steps = {}
    for kind in ("", "Craft"):
        trainer = make_trainer(tmp_path / (kind or "plain"), kind + name, *OFF)
        steps[kind], update = [], trainer.model_backward_and_update

        def recorded(loss, names=None, trainer=trainer, update=update, kind=kind):
            update(loss, names)
            steps[kind].append(
                {key: value.clone() for key, value in trainer.model.state_dict().items()}
            )

        trainer.model_backward_and_update = recorded
        trainer.train()
        steps[kind].append(trainer.model.state_dict())
    assert len(steps[""]) == len(steps["Craft"]) > 4
    assert all(same(one, other) for one, other in zip(steps[""], steps["Craft"], strict=True))
    assert not same(steps[""][0], steps[""][-1])


@pytest.mark.parametrize("name", LEARNERS)
def test_crafts_terms_are_the_specified_ones_on_every_structure(tmp_path, name):
    trainer = make_trainer(tmp_path, "Craft" + name)
    batch = next(iter(trainer.train_loader_x))
    pictures, labels = batch["img"], batch["label"]
    features = trainer.clip.features(pictures)
    terms = trainer.loss_terms(Step(trainer.clip, pictures, labels, features))
    text = torch.stack(
        [
            (features.text[i] if features.text.dim() == 3 else features.text)[label]
            for i, label in enumerate(labels)
        ]
    )
    assert terms["craft_static"].item() == pytest.approx(
        0.5
        * static_alignment(
            text, labels, trainer.anchors.features, trainer.anchors.labels, features.scale
        ).item(),
        rel=1e-5,
    )
    assert terms["craft_stochastic"].item() == pytest.approx(
        0.5 * stochastic_alignment(features.image, text, labels, features.scale).item(), rel=1e-5
    )
    own = sum(terms[key] for key in ("craft_static", "craft_stochastic"))
    gradients = torch.autograd.grad(own, list(trainer.model.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_checkpoint_is_small_and_reloads_in_the_baseline(tmp_path, name):
    craft = trained(tmp_path, "Craft" + name)
    path = tmp_path / "output" / craft.model_name / "model.pth.tar-2"
    numbers = sum(p.numel() for p in craft.model.parameters())
    assert (
        path.stat().st_size < 16 * numbers + 60_000
    )  # parameters, momentum, random states: no CLIP, no anchors
    baseline = make_trainer(tmp_path, name)
    baseline.load_model(str(tmp_path / "output"), epoch=2)
    assert same(baseline.model.state_dict(), craft.model.state_dict())


@pytest.mark.parametrize("name", LEARNERS)
def test_published_checkpoints_load_and_what_is_ignored_is_said(tmp_path, name, capsys):
    trainer = make_trainer(tmp_path, name)
    own = {key: torch.randn_like(value) for key, value in trainer.model.state_dict().items()}
    lead = "" if name in ("CoOp", "CoCoOp") else "prompt_learner."
    extra = {
        f"{lead}token_prefix": torch.zeros(9, 1, 64),
        f"{lead}token_suffix": torch.zeros(9, 72, 64),
    }
    if lead:
        extra |= {
            "image_encoder.conv1.weight": torch.zeros(64, 3, 8, 8),
            "text_encoder.transformer.resblocks.0.ln_1.weight": torch.zeros(64),
            "logit_scale": torch.tensor(4.6),
        }
    if name == "PromptSRC":
        extra |= {"prompt_learner.ZS_image_encoder.conv1.weight": torch.zeros(64, 3, 8, 8)}
    folder = tmp_path / "published" / trainer.model_name
    folder.mkdir(parents=True)
    torch.save(
        {
            "state_dict": own | extra,
            "epoch": 5,
            "optimizer": None,
            "scheduler": None,
            "val_result": None,
        },
        folder / "model.pth.tar-5",
    )
    capsys.readouterr()
    trainer.load_model(str(tmp_path / "published"), epoch=5)
    assert same(trainer.model.state_dict(), own)
    assert "token_prefix" in (said := capsys.readouterr().out) and (
        not lead or "tensors of frozen CLIP" in said
    )


def test_batches_of_one_say_that_they_have_nothing_to_compare(tmp_path, capsys):
    make_trainer(tmp_path, "CraftCoCoOp", "DATALOADER.TRAIN_X.BATCH_SIZE", 1)
    assert (
        "with batches of one image craft_stochastic is 0 at every step: raise "
        "DATALOADER.TRAIN_X.BATCH_SIZE" in capsys.readouterr().out
    )


# Starts and depths of the published codes


@pytest.mark.parametrize(
    ("name", "key"), [("MaPLe", "N_CTX"), ("IVLP", "N_CTX_TEXT"), ("PromptSRC", "N_CTX_TEXT")]
)
def test_more_than_four_contexts_start_from_noise_whatever_the_words(tmp_path, name, key, capsys):
    node = f"TRAINER.{STRUCTURES[name]}"
    texts = {}
    for number, words in ((5, "a photo of a"), (5, ""), (4, "a photo of a"), (4, "")):
        trainer = make_trainer(tmp_path, name, f"{node}.{key}", number, f"{node}.CTX_INIT", words)
        said = f"CTX_INIT 'a photo of a' is not used: {number} context vectors"
        assert (said in capsys.readouterr().out) == (number == 5 and words != "")
        texts[number, words] = trainer.clip.text_features()
    assert torch.equal(texts[5, "a photo of a"], texts[5, ""])
    assert not torch.allclose(texts[4, "a photo of a"], texts[4, ""], atol=1e-3)


def test_vpt_without_words_has_the_published_class_texts(tmp_path, capsys):
    starts = (" ", "a photo of a", "a sketch of a")
    empty, given, other = (
        make_trainer(tmp_path, "VPT", "TRAINER.VPT.CTX_INIT", words) for words in starts
    )
    said = "TRAINER.VPT.CTX_INIT is empty: the class texts begin with 'a photo of a', as published"
    assert capsys.readouterr().out.count(said) == 1
    assert torch.equal(empty.clip.text_features(), given.clip.text_features())
    assert not torch.allclose(other.clip.text_features(), given.clip.text_features(), atol=1e-3)


@pytest.mark.parametrize("name", ["IVLP", "PromptSRC", "CraftIVLP", "CraftPromptSRC"])
def test_a_visual_depth_of_zero_prompts_the_texts_only(tmp_path, name, monkeypatch):
    node = f"TRAINER.{STRUCTURES[name.removeprefix('Craft')]}"
    options = (f"{node}.PROMPT_DEPTH_VISION", 0, "INPUT.TRANSFORMS", ("normalize",))
    trainer = make_trainer(tmp_path, name, *options)
    assert not [key for key, _ in trainer.model.named_parameters() if "image" in key]
    assert trainer.clip.deep_text_prompts()
    pictures = images(3, TINY["image"])
    assert torch.equal(
        trainer.clip.image_features(pictures), trainer.backbone.encode_images(pictures)
    )
    tensors, about = contents(Trained(trainer.cfg, trainer.clip, trainer.dm.tfm_test))
    assert about["image_tower_needs_prompts"] == "false"
    assert not any(key.startswith("visual_prompts") for key in tensors)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.train()
    assert next(iter(trainer.train_loader_x))["img"].dim() == 2
    assert not same(before, trainer.model.state_dict())
    monkeypatch.setattr(base, "encode_training_images_once", lambda trainer: None)
    slow = trained(tmp_path / "slow", name, *options)
    for key, value in trainer.model.state_dict().items():
        assert torch.allclose(value, slow.model.state_dict()[key], atol=1e-5), key


# PromptSRC's average over epochs


def test_epoch_weights_are_a_gaussian():
    weights = epoch_weights(20, 15, 1)
    assert (
        sum(weights) == pytest.approx(1) and max(range(20), key=weights.__getitem__) == 14
    )  # the 15th epoch
    assert weights[15] / weights[14] == pytest.approx(2.718281828**-0.5)
    assert epoch_weights(3, 15, 1)[2] == pytest.approx(1, abs=1e-5) and sum(
        epoch_weights(2, 90, 1)
    ) == pytest.approx(1)


def test_the_final_prompts_are_the_average_and_a_resumed_run_has_the_same(tmp_path):
    options = ("OPTIM.MAX_EPOCH", 3, "TRAINER.PROMPTSRC.GPA_MEAN", 2.0, "TRAIN.CHECKPOINT_FREQ", 1)
    trainer = make_trainer(tmp_path, "PromptSRC", *options)
    seen, after_epoch = [], trainer.after_epoch

    def recorded():
        seen.append({key: value.clone() for key, value in trainer.model.state_dict().items()})
        after_epoch()

    trainer.after_epoch = recorded
    trainer.train()
    weights = epoch_weights(3, 2.0, 1.0)
    for key, value in trainer.model.state_dict().items():
        assert torch.allclose(
            value,
            sum(weight * state[key] for weight, state in zip(weights, seen, strict=True)),
            atol=1e-6,
        )
    final = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    folder = tmp_path / "output" / trainer.model_name
    (folder / "model.pth.tar-3").unlink()
    (folder / "checkpoint").write_text("model.pth.tar-2\n")
    assert same(trained(tmp_path, "PromptSRC", *options).model.state_dict(), final)


# Work done once, and in pieces


def test_cocoop_evaluates_many_images_at_once_within_its_budget(tmp_path):
    trainer = make_trainer(tmp_path, "CoCoOp")
    pictures = images(7, TINY["image"])
    together = trainer.model_inference(pictures)
    trainer.clip.images_at_once = lambda: 2
    assert torch.allclose(trainer.model_inference(pictures), together, atol=1e-5)
    one_by_one = torch.cat([trainer.model_inference(picture[None]) for picture in pictures])
    assert torch.allclose(one_by_one, together, atol=1e-5)
    del trainer.clip.images_at_once
    numbers = (
        trainer.model.names.shape[0] * trainer.model.names.shape[1] * 4 * TINY["text_width"] * 4
    )
    assert (
        trainer.clip.images_at_once()
        == trainer.cfg.TRAINER.COCOOP.EVAL_MEMORY_MB * 2**20 // numbers
    )


@pytest.mark.parametrize("name", ["VPT", "PromptSRC"])
def test_frozen_class_texts_are_encoded_once_for_a_whole_run(tmp_path, name, monkeypatch):
    calls, encode = [], Backbone.encode_texts
    monkeypatch.setattr(
        Backbone,
        "encode_texts",
        lambda self, texts, *more: calls.append(len(texts)) or encode(self, texts, *more),
    )
    trainer = make_trainer(tmp_path, name)
    trainer.train()
    assert calls == [len(CLASSES) * (60 if name == "PromptSRC" else 1)]


@pytest.mark.parametrize("name", ["CoOp", "CraftCoOp", "CoCoOp"])
def test_images_that_stay_the_same_are_encoded_once(tmp_path, name, monkeypatch):
    """With a training transform that draws nothing; the result is that of encoding them at every
    step.
    """
    fixed = ("INPUT.TRANSFORMS", ("normalize",), "OPTIM.MAX_EPOCH", 3)
    trainer = make_trainer(tmp_path / "a", name, *fixed, "TEST.NO_TEST", True)
    calls, encode = [], trainer.backbone.encode_images
    trainer.backbone.encode_images = lambda pictures: (
        calls.append(len(pictures)) or encode(pictures)
    )
    trainer.train()
    assert sum(calls) == len(trainer.dm.dataset.train_x)
    monkeypatch.setattr(base, "encode_training_images_once", lambda trainer: None)
    slow = trained(tmp_path / "b", name, *fixed)
    for key, value in trainer.model.state_dict().items():
        assert torch.allclose(value, slow.model.state_dict()[key], atol=1e-5), key


def test_cached_views_are_drawn_once_and_vary_over_the_steps(tmp_path, capsys):
    options = ("TRAINER.CACHED_VIEWS", 3, "INPUT.TRANSFORMS", ("random_resized_crop", "normalize"))
    first = trained(tmp_path, "CoOp", *options)
    assert (
        "3 view(s) of 12 training images are encoded once, for all steps (cache miss, written to"
        in capsys.readouterr().out
    )
    views = first.train_loader_x.dataset.views
    assert views.shape == (3, 12, TINY["embed"]) and not torch.allclose(
        views[0], views[1], atol=1e-3
    )
    drawn = torch.stack([first.train_loader_x.dataset[0]["img"] for _ in range(30)])
    assert len(drawn.unique(dim=0)) == 3
    second = trained(tmp_path / "again", "CoOp", *options, "DATASET.ROOT", str(tmp_path / "data"))
    assert "cache hit" in capsys.readouterr().out and same(
        second.model.state_dict(), first.model.state_dict()
    )


@pytest.mark.parametrize("name", ["CoOp", "CraftCoCoOp", "ZeroshotCLIP"])
def test_cached_tests_are_shared_by_runs_and_equal_to_the_bit(tmp_path, capsys, name):
    root = ("DATASET.ROOT", str(tmp_path / "data"))
    options = (*root, "DATALOADER.TEST.BATCH_SIZE", 3, "OPTIM.MAX_EPOCH", 1)
    plain = trained(tmp_path / "plain", name, *options)
    cached = ("TRAINER.CACHED_TESTS", True)
    trained(tmp_path / "other", "CoOp", *options, *cached, "SEED", 2)
    assert "8 images to test on are encoded once, for all runs (cache miss, written" in (
        capsys.readouterr().out
    )
    trainer = trained(tmp_path / "cached", name, *options, *cached)
    assert "images to test on are encoded once, for all runs (cache hit" in capsys.readouterr().out
    paths = [Path(run.output_dir, "outcomes_test.npz") for run in (plain, trainer)]
    mine, theirs = (np.load(path) for path in paths)
    assert {"scores", "highest", "predicted"} <= set(mine.files)
    assert all(np.array_equal(mine[key], theirs[key]) for key in mine.files if key != "ties")
    assert trainer._hash() == plain._hash()


def test_tests_are_not_cached_for_visual_prompts(tmp_path, capsys):
    trained(tmp_path, "VPT", "OPTIM.MAX_EPOCH", 1, "TRAINER.CACHED_TESTS", True)
    assert "to test on are encoded once" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["CoOp", "MaPLe", "CoCoOp"])
def test_checkpointing_the_text_tower_changes_nothing_but_memory(tmp_path, name):
    plain = trained(tmp_path / "a", name, "OPTIM.MAX_EPOCH", 1)
    again = trained(tmp_path / "b", name, "OPTIM.MAX_EPOCH", 1, "TRAINER.TEXT_CHECKPOINTING", True)
    for key, value in plain.model.state_dict().items():
        assert torch.allclose(value, again.model.state_dict()[key], atol=1e-6), key


def test_checkpointing_keeps_less(tmp_path):
    kept = {}
    for on in (False, True):
        trainer = make_trainer(tmp_path, "CoOp", "TRAINER.TEXT_CHECKPOINTING", on)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            trainer.clip.text_features()
        kept[on] = sum(sizes)
    assert kept[True] < kept[False] / 3


@pytest.mark.slow
def test_a_compiled_block_gives_the_same_features_and_gradients(tmp_path):
    """One graph: compiling all of a run's takes longer than all other tests of this file."""
    trainer = make_trainer(tmp_path, "MaPLe", "TRAINER.COMPILE", True)
    towers = (trainer.backbone.text, trainer.backbone.image)
    blocks = [block for tower in towers for block in tower.blocks]
    assert blocks and all(block._compiled_call_impl is not None for block in blocks)
    plain = make_trainer(tmp_path, "MaPLe").backbone.image.blocks[0]
    assert plain._compiled_call_impl is None
    start = torch.randn(2, 5, TINY["vision_width"], generator=torch.Generator().manual_seed(0))
    found = []
    for block in (plain, trainer.backbone.image.blocks[0]):
        x = start.clone().requires_grad_()
        out, keys_values = block(x)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        found.append((out, *keys_values, gradient))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_the_ensemble_is_the_mean_of_unit_features(tmp_path):
    trainer = make_trainer(tmp_path, "ZeroshotCLIP2")
    slow = sum(
        trainer.backbone.encode_texts([template.format(name) for name in trainer.classnames])
        for template in (*SEVEN, "a picture of a {}.")
    )
    assert torch.allclose(trainer.clip.text_features(), F.normalize(slow, dim=1), atol=1e-6)
    assert len(set(SIXTY)) == 60 and len(set(SEVEN)) == 7


@pytest.mark.parametrize("name", LEARNERS)
def test_mixed_precision_on_a_cpu_is_close(tmp_path, name):
    exact = make_trainer(tmp_path, name)
    mixed = make_trainer(tmp_path, name, f"TRAINER.{STRUCTURES[name]}.PREC", "amp")
    pictures = images(3, TINY["image"])
    one, other = exact.clip.features(pictures), mixed.clip.features(pictures)
    assert isinstance(other, Features) and other.image.dtype == torch.float32
    assert torch.allclose(one.logits(), other.logits(), atol=0.25)


# What users get wrong


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (
            "MaPLe",
            "TRAINER.MAPLE.PROMPT_DEPTH",
            4,
            "prompts for 4 layers do not fit an encoder of 3 layers: set the prompt depth to 3 or "
            "less",
        ),
        (
            "VPT",
            "TRAINER.VPT.PROMPT_DEPTH_VISION",
            4,
            "prompts for 4 layers do not fit an encoder of 3 layers",
        ),
        (
            "IVLP",
            "TRAINER.IVLP.PROMPT_DEPTH_TEXT",
            0,
            "TRAINER.IVLP.PROMPT_DEPTH_TEXT is 0: set it to 1 or more",
        ),
        (
            "PromptSRC",
            "TRAINER.PROMPTSRC.N_CTX_VISION",
            0,
            "TRAINER.PROMPTSRC.N_CTX_VISION is 0: set it to 1 or more",
        ),
        (
            "MaPLe",
            "TRAINER.MAPLE.CTX_INIT",
            "photo",
            "CTX_INIT 'photo' has 1 word.s. for 2 context vectors: reduce N_CTX, or leave CTX_INIT "
            "empty",
        ),
        (
            "IVLP",
            "TRAINER.IVLP.PROMPT_DEPTH_VISION",
            -1,
            "TRAINER.IVLP.PROMPT_DEPTH_VISION is -1: set it to 0 or more",
        ),
        (
            "VPT",
            "TRAINER.VPT.PROMPT_DEPTH_VISION",
            0,
            "TRAINER.VPT.PROMPT_DEPTH_VISION is 0: set it to 1 or more",
        ),
        (
            "CoCoOp",
            "TRAINER.COCOOP.N_CTX",
            80,
            "class name 'golden retriever' with 80 context tokens takes 85 positions|class name "
            "'tabby cat' with 80",
        ),
        (
            "VPT",
            "TRAINER.CACHED_VIEWS",
            2,
            "TRAINER.CACHED_VIEWS is 2 but VPT learns visual prompts: set it to 0",
        ),
        ("CoOp", "TRAINER.CACHED_VIEWS", -1, "TRAINER.CACHED_VIEWS is -1: set it to 0 or more"),
        (
            "PromptSRC",
            "TRAINER.PROMPTSRC.GPA_STD",
            0.0,
            "TRAINER.PROMPTSRC.GPA_STD is 0.0: set it to a positive number of epochs",
        ),
        (
            "IVLP",
            "TRAINER.IVLP.PREC",
            "fp16",
            "TRAINER.IVLP.PREC fp16 needs a CUDA device: set TRAINER.IVLP.PREC to fp32 or amp",
        ),
    ],
)
def test_wrong_options(tmp_path, name, key, value, message):
    with pytest.raises(UserError, match=message) as caught:
        encode_training_images_once(make_trainer(tmp_path, name, key, value))
    assert "\n" not in str(caught.value)


def test_contexts_per_class_are_not_for_cocoop(tmp_path):
    from dassl.config import get_cfg_default, merge_from_list
    from trainers import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    with pytest.raises(UserError, match="unknown config key 'TRAINER.COCOOP.CSC'"):
        merge_from_list(cfg, ["TRAINER.COCOOP.CSC", "True"])
    assert json.dumps(cfg.TRAINER.COCOOP)


@pytest.mark.parametrize("name", ["VPT", "IVLP", "MaPLe", "PromptSRC"])
def test_a_resnet_takes_no_visual_prompts(tmp_path, name, resnet_file):
    with pytest.raises(
        UserError,
        match="visual prompts need a vision transformer, but MODEL.BACKBONE.NAME is a ResNet",
    ):
        make_trainer(tmp_path, name, "MODEL.BACKBONE.NAME", str(resnet_file), *RESNET_INPUT)


def test_ivlp_without_visual_prompts_runs_on_a_resnet(tmp_path, resnet_file):
    trainer = make_trainer(
        tmp_path,
        "IVLP",
        "MODEL.BACKBONE.NAME",
        str(resnet_file),
        *RESNET_INPUT,
        "TRAINER.IVLP.PROMPT_DEPTH_VISION",
        0,
    )
    assert trainer.clip.features(images(2, 32)).logits().shape == (2, len(CLASSES))


@pytest.mark.parametrize("name", ["CoOp", "CraftCoOp", "CoCoOp", "CraftCoCoOp"])
def test_text_side_methods_train_on_a_resnet(tmp_path, name, resnet_file):
    trainer = make_trainer(
        tmp_path, name, "MODEL.BACKBONE.NAME", str(resnet_file), *RESNET_INPUT, "OPTIM.MAX_EPOCH", 1
    )
    before = trainer.model.ctx.detach().clone()
    trainer.train()
    assert not torch.equal(trainer.model.ctx, before)


RESNET_INPUT = ("INPUT.SIZE", (32, 32))


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(
        embed_dim=32,
        image_resolution=32,
        vision_layers=(1, 1, 1, 1),
        vision_width=8,
        vision_patch_size=None,
        context_length=77,
        vocab_size=49408,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=3,
    )
    path = tmp_path_factory.mktemp("resnet") / "resnet.pt"
    torch.save(model.state_dict(), path)
    return path
