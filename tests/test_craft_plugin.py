"""CRAFT through the engine, on CoOp."""

import json

import pytest
import torch
import torch.nn.functional as F
from tiny_run import CLASSES, PARTS, TRAIN, make_trainer, write_table
from torchvision.transforms import Compose, RandomResizedCrop, ToTensor

from dassl.utils import UserError, read_image
from trainers.craft.alignment import StaticAlignment
from trainers.craft.discrepancy import DomainDiscrepancy
from trainers.craft.losses import static_alignment, stochastic_alignment
from trainers.craft.mmd import group_mmd2, mmd2, relative
from trainers.step import Features, Step
from trainers.views import encode_training_images_once

OFF = ("TRAINER.CRAFT.LAMBDA_STATIC", 0.0, "TRAINER.CRAFT.LAMBDA_STOCHASTIC", 0.0)


def trained(folder, name, *options):
    trainer = make_trainer(folder, name, *options)
    trainer.train()
    return trainer


def step(trainer):
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 100
    batch = next(iter(trainer.train_loader_x))
    return batch, trainer.forward_backward(batch)


def test_without_weights_it_is_its_baseline_to_the_bit(tmp_path):
    baseline, craft = trained(tmp_path / "a", "CoOp"), trained(tmp_path / "b", "CraftCoOp", *OFF)
    assert torch.equal(baseline.model.ctx, craft.model.ctx)
    assert craft.anchors is None and not (tmp_path / "b" / "data" / "noise" / ".anchors").exists()


def test_a_test_makes_no_anchors(tmp_path):
    craft = make_trainer(tmp_path, "CraftCoOp", "EVAL_ONLY", True)
    assert craft.anchors is None and not (tmp_path / "data" / "noise" / ".anchors").exists()
    craft.test()


def test_anchors_of_drafted_pictures_are_others(tmp_path):
    """INPUT.DRAFT decodes large JPEGs to other pixels."""
    keys = {
        json.dumps(trainer.describe_images(trainer.dm.dataset.train_x, trainer.dm.tfm_test))
        for trainer in (
            make_trainer(tmp_path, "CoOp", "INPUT.DRAFT", draft) for draft in (False, True)
        )
    }
    assert len(keys) == 2


def test_transforms_that_a_trainer_brings_along_are_not_frozen_into_one_view(tmp_path):
    """By its name the transform is the same at every step; what the loader does is not."""
    fixed = ("INPUT.TRANSFORMS", ("normalize",))
    cached, own = make_trainer(tmp_path, "CoOp", *fixed), make_trainer(tmp_path, "CoOp", *fixed)
    own.dm.tfm_train = own.train_loader_x.dataset.transform = Compose(
        [RandomResizedCrop(32), ToTensor()]
    )
    for trainer, dimensions in ((cached, 2), (own, 4)):
        encode_training_images_once(trainer)
        assert next(iter(trainer.train_loader_x))["img"].dim() == dimensions


def test_anchors_change_neither_start_nor_batches(tmp_path):
    """The comparison of a method with and without CRAFT is over the same random draws."""
    baseline, craft = (
        make_trainer(tmp_path, "CoOp"),
        make_trainer(tmp_path, "CraftCoOp"),
    )  # one after the other
    assert torch.equal(baseline.model.ctx, craft.model.ctx)
    states = []
    for name in ("CoOp", "CraftCoOp"):
        trainer = make_trainer(tmp_path, name)
        batches = [(batch["impath"], batch["img"]) for batch in trainer.train_loader_x]
        states.append(batches)
    for (paths, pictures), (other_paths, other_pictures) in zip(*states, strict=True):
        assert paths == other_paths and torch.equal(pictures, other_pictures)


@pytest.mark.parametrize("targets", ["label", "index"])
@pytest.mark.parametrize("directions", ["both", "image_to_text"])
def test_the_loss_is_the_baselines_plus_the_terms(tmp_path, targets, directions):
    trainer = make_trainer(
        tmp_path,
        "CraftCoOp",
        "TRAINER.CRAFT.LAMBDA_STATIC",
        0.3,
        "TRAINER.CRAFT.LAMBDA_STOCHASTIC",
        0.7,
        "TRAINER.CRAFT.ANCHORS_PER_CLASS",
        2,
        "TRAINER.CRAFT.STOCHASTIC_TARGETS",
        targets,
        "TRAINER.CRAFT.STOCHASTIC_DIRECTIONS",
        directions,
    )
    assert len(trainer.anchors.labels) == 2 * len(CLASSES)
    ctx = trainer.model.ctx.detach().clone()
    batch, summary = step(trainer)
    trainer.model.ctx.data = ctx
    with torch.no_grad():
        image, text, labels = (
            trainer.clip.image_features(batch["img"]),
            trainer.clip.text_features(),
            batch["label"],
        )
        scale, anchors = trainer.backbone.scale, trainer.anchors
        terms = {
            "cross_entropy": F.cross_entropy(scale * image @ text.T, labels),
            "craft_static": 0.3
            * static_alignment(text[labels], labels, anchors.features, anchors.labels, scale),
            "craft_stochastic": 0.7
            * stochastic_alignment(image, text[labels], labels, scale, targets, directions),
        }
    assert set(summary) == {"loss", "acc", *terms}
    for name, value in terms.items():
        assert summary[name] == pytest.approx(value.item(), rel=1e-5)
    assert summary["loss"] == pytest.approx(sum(terms.values()).item(), rel=1e-5)


def test_crafts_terms_join_a_plain_trainer_and_never_count_twice(tmp_path):
    off, terms = ("TRAINER.CRAFT.LAMBDA_STOCHASTIC", 0.0), ("TRAINER.TERMS", ("StaticAlignment",))
    craft = trained(tmp_path / "a", "CraftCoOp", *off)
    plain = trained(tmp_path / "b", "CoOp", *terms)
    twice = trained(tmp_path / "c", "CraftCoOp", *off, *terms)
    assert torch.equal(craft.model.ctx, plain.model.ctx)
    assert torch.equal(craft.model.ctx, twice.model.ctx)
    assert plain.config_nodes(plain.cfg) == ("COOP", "CRAFT") == twice.config_nodes(twice.cfg)
    assert not torch.equal(craft.model.ctx, trained(tmp_path / "d", "CoOp").model.ctx)


def test_terms_say_what_a_step_lacks(tmp_path):
    craft = make_trainer(tmp_path, "CraftCoOp").cfg.TRAINER.CRAFT.clone()
    image, labels = F.normalize(torch.eye(3, 8), dim=1), torch.arange(3)
    features = Features(image, image, torch.tensor(5.0))
    step = Step(None, image, labels, features)
    with pytest.raises(ValueError, match="the static image anchors are not built"):
        StaticAlignment(craft)(step)
    craft.defrost()
    for domains, lacking in (("group", "no domains to tell groups by"), ("unlabelled", "no unla")):
        craft.MMD.DOMAINS = domains
        with pytest.raises(ValueError, match=lacking):
            DomainDiscrepancy(craft)(step)


@pytest.mark.parametrize("off", ["STATIC", "STOCHASTIC"])
def test_a_weight_of_zero_leaves_its_term_out(tmp_path, off):
    _, summary = step(make_trainer(tmp_path, "CraftCoOp", f"TRAINER.CRAFT.LAMBDA_{off}", 0.0))
    assert (
        f"craft_{off.lower()}" not in summary
        and len([name for name in summary if name.startswith("craft_")]) == 1
    )


def test_each_term_teaches_the_context(tmp_path):
    contexts = [
        trained(tmp_path / str(i), "CraftCoOp", f"TRAINER.CRAFT.LAMBDA_{off}", 0.0).model.ctx
        for i, off in enumerate(("STATIC", "STOCHASTIC"))
    ]
    contexts.append(trained(tmp_path / "none", "CoOp").model.ctx)
    assert not any(torch.equal(contexts[i], contexts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_anchors_are_the_class_means_of_the_runs_own_images(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "CraftCoOp", "DATASET.SUBSAMPLE_CLASSES", "new")
    dataset = trainer.dm.dataset
    assert trainer.anchors.labels.tolist() == [0, 1, 2] and len(dataset.train_x) == 3 * TRAIN
    for label in range(3):
        pictures = torch.stack(
            [
                trainer.dm.tfm_test(read_image(item.impath))
                for item in dataset.train_x
                if item.label == label
            ]
        )
        mean = trainer.backbone.encode_images(pictures).mean(0)
        assert torch.allclose(trainer.anchors.features[label], mean / mean.norm(), atol=1e-5)
    assert (
        f"CRAFT: 3 static image anchors of 3 classes from {3 * TRAIN} images (cache miss"
        in capsys.readouterr().out
    )
    again = make_trainer(tmp_path, "CraftCoOp", "DATASET.SUBSAMPLE_CLASSES", "new")
    assert "(cache hit" in capsys.readouterr().out
    assert torch.equal(again.anchors.features, trainer.anchors.features)
    make_trainer(tmp_path, "CraftCoOp")  # other classes, other anchors
    assert "4 classes" in (out := capsys.readouterr().out) and "(cache miss" in out


def test_anchors_follow_the_options_given(tmp_path, monkeypatch):
    from trainers.craft import alignment

    given, make = [], alignment.image_anchors
    monkeypatch.setattr(
        alignment,
        "image_anchors",
        lambda description, batches, *rest: given.append(rest) or make(description, batches, *rest),
    )
    make_trainer(
        tmp_path, "CraftCoOp", "TRAINER.CRAFT.ANCHORS_PER_CLASS", 2, "TRAINER.CRAFT.KMEANS_SEED", 5
    )
    assert given == [(2, 5, str(tmp_path / "data/noise/.anchors"))]


def test_views_follow_the_seed_and_all_that_draws_depend_on(tmp_path, monkeypatch):
    from trainers import views as views_module

    given, encode = [], views_module.encoded_views
    monkeypatch.setattr(
        views_module,
        "encoded_views",
        lambda number, batches, seed, description, *rest: (
            given.append((number, seed, description))
            or encode(number, batches, seed, description, *rest)
        ),
    )
    views = []
    for options in (("SEED", 1), ("SEED", 2), ("SEED", -1), ("DATALOADER.TEST.BATCH_SIZE", 5)):
        trainer = make_trainer(tmp_path, "CoOp", "TRAINER.CACHED_VIEWS", 2, *options)
        views_module.encode_training_images_once(trainer)
        views.append(trainer.train_loader_x.dataset.views)
    assert [(number, seed) for number, seed, _ in given] == [(2, 1), (2, 2), (2, 0), (2, 1)]
    assert [(description["workers"], description["batch"]) for *_, description in given] == [
        (0, 3)
    ] * 3 + [(0, 5)]
    assert not any(torch.equal(views[0], other) for other in views[1:3])
    assert len(list((tmp_path / "data/noise/.views").iterdir())) == 4


def test_a_checkpoint_is_the_baselines(tmp_path):
    craft = trained(tmp_path, "CraftCoOp")
    saved = torch.load(
        tmp_path / "output" / "prompt_learner" / "model.pth.tar-2", weights_only=True
    )
    assert list(saved["state_dict"]) == ["ctx"]
    baseline = make_trainer(tmp_path / "other", "CoOp")
    baseline.load_model(str(tmp_path / "output"), epoch=2)
    assert torch.equal(baseline.model.ctx, craft.model.ctx)


def test_template_texts_do_not_depend_on_coops_context(tmp_path, capsys):
    """CoOp has first-layer prompts only, so template samples teach it nothing, which it notes."""
    craft = trained(tmp_path / "a", "CraftCoOp", "TRAINER.CRAFT.TEXT_SAMPLES", "template")
    out = capsys.readouterr().out
    assert out.count("no gradient for this method with TRAINER.CRAFT.TEXT_SAMPLES 'template'") == 1
    assert torch.equal(craft.model.ctx, trained(tmp_path / "b", "CoOp").model.ctx)
    labels = torch.tensor([2, 0, 2])
    expected = craft.backbone.encode_texts(
        [f"a picture of a {CLASSES[label].replace('_', ' ')}." for label in labels]
    )
    assert torch.allclose(craft.clip.template_features(labels), expected, atol=1e-5)


def test_batches_of_one_image_train(tmp_path):
    craft = make_trainer(
        tmp_path,
        "CraftCoOp",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        1,
        "TRAINER.CRAFT.LAMBDA_STATIC",
        0.0,
    )
    _, summary = step(craft)
    assert summary["craft_stochastic"] == 0 and craft.model.ctx.isfinite().all()


def test_mixed_precision(tmp_path):
    craft = trained(tmp_path, "CraftCoOp", "TRAINER.COOP.PREC", "amp")
    assert craft.anchors.features.dtype == torch.float32 and craft.model.ctx.isfinite().all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "TEXT_SAMPLES",
            "words",
            "TRAINER.CRAFT.TEXT_SAMPLES is 'words': choose one of prompt, template",
        ),
        (
            "STOCHASTIC_TARGETS",
            "labels",
            "TRAINER.CRAFT.STOCHASTIC_TARGETS is 'labels': choose one of label, index",
        ),
        (
            "STOCHASTIC_DIRECTIONS",
            "text_to_image",
            "TRAINER.CRAFT.STOCHASTIC_DIRECTIONS is 'text_to_image': choose one of both, "
            "image_to_text",
        ),
        (
            "LAMBDA_STATIC",
            -1.0,
            "TRAINER.CRAFT.LAMBDA_STATIC is -1.0: set it to 0 or a positive number",
        ),
        (
            "LAMBDA_STOCHASTIC",
            float("nan"),
            "TRAINER.CRAFT.LAMBDA_STOCHASTIC is nan: set it to 0 or a positive number",
        ),
        ("ANCHORS_PER_CLASS", 0, "TRAINER.CRAFT.ANCHORS_PER_CLASS is 0: set it to 1 or more"),
    ],
)
def test_wrong_options(tmp_path, key, value, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        make_trainer(tmp_path, "CraftCoOp", f"TRAINER.CRAFT.{key}", value)


# MMD between two domains of a table with several pictures of a class in every part

SHIFTED = ("DATASET.NAME", "CSV", "DATASET.FOLDER", "own", "DATALOADER.TRAIN_X.BATCH_SIZE", 6)
TO_SKETCHES = (
    *SHIFTED,
    "DATASET.SOURCE_DOMAINS",
    ("photo",),
    "DATASET.TARGET_DOMAINS",
    ("sketch",),
)
MMD_OPTIONS = [
    {"ESTIMATOR": "unbiased", "BANDWIDTH": "fixed", "SIGMAS": [0.3, 1.5], "SPACE": "probability"},
    {"ESTIMATOR": "unbiased", "BANDWIDTH": "median", "MULTIPLIERS": [0.5, 3.0], "SPACE": "anchor"},
    {"ESTIMATOR": "biased", "BANDWIDTH": "fixed", "SIGMAS": [0.2], "SPACE": "feature"},
]


def shifted(folder, domains, options, *more):
    write_table(folder)
    data = SHIFTED if domains == "group" else TO_SKETCHES
    keys = (
        word for name, value in options.items() for word in (f"TRAINER.CRAFT.MMD.{name}", value)
    )
    return make_trainer(
        folder, "CraftMaPLe", *data, "TRAINER.CRAFT.MMD.DOMAINS", domains, *keys, *more
    )


@pytest.mark.parametrize("options", MMD_OPTIONS)
@pytest.mark.parametrize("domains", ["unlabelled", "group"])
def test_craft_mmd_is_its_weight_times_the_discrepancy_with_the_options_given(
    tmp_path, domains, options
):
    weight = 0.3
    trainer = shifted(tmp_path, domains, options, *OFF, "TRAINER.CRAFT.LAMBDA_MMD", weight)
    trainer.set_model_mode("train")
    trainer.batch_idx, trainer.num_batches = 0, 100
    # Of a class and domain two pictures each, so that every group is large enough for the unbiased
    # estimator.
    items = [
        item
        for item in trainer.dm.dataset.train_x
        if item.label < 2 and item.impath.endswith(("0.png", "1.png"))
    ]
    pictures, labels, domain = (
        torch.stack([trainer.dm.tfm_test(read_image(item.impath)) for item in items]),
        *(torch.tensor([getattr(item, name) for item in items]) for name in ("label", "domain")),
    )
    target = next(iter(trainer.train_loader_u))["img"] if domains == "unlabelled" else None
    given = {
        "estimator": options["ESTIMATOR"],
        "bandwidth": options["BANDWIDTH"],
        "sigmas": options.get("SIGMAS", [1.0]),
        "multipliers": options.get("MULTIPLIERS", [0.25, 0.5, 1, 2, 4]),
    }
    with torch.no_grad():
        text = trainer.clip.text_features()
        own, other = (
            None
            if images is None
            else relative(
                trainer.clip.image_features(images), text, trainer.backbone.scale, options["SPACE"]
            )
            for images in (pictures, target)
        )
        expected = (
            group_mmd2(own, labels, domain, **given)
            if domains == "group"
            else mmd2(own, other, **given)
        )
    batch = {"img": pictures, "label": labels, "domain": domain}
    summary = trainer.forward_backward(batch, None if target is None else {"img": target})
    assert abs(expected.item()) > 1e-5
    assert summary["craft_mmd"] == pytest.approx(weight * expected.item(), rel=1e-4)
    assert summary["loss"] == pytest.approx(
        summary["cross_entropy"] + summary["craft_mmd"], rel=1e-5
    )


@pytest.mark.parametrize("domains", ["unlabelled", "group"])
def test_mmd_has_the_gradients_of_its_values_through_both_samples_and_the_texts(tmp_path, domains):
    """By finite differences, which a sample that is held constant would not pass."""
    trainer = shifted(
        tmp_path,
        domains,
        {"BANDWIDTH": "fixed", "SIGMAS": [0.5]},
        *OFF,
        "TRAINER.CRAFT.LAMBDA_MMD",
        1.0,
    )
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    domain = torch.tensor([0, 1, 0, 1, 1, 0])
    trainer.clip.image_features = lambda images: images  # features stand for their images
    generator = torch.Generator().manual_seed(0)
    image, target, text = (
        F.normalize(
            torch.randn(count, 8, generator=generator, dtype=torch.double), dim=1
        ).requires_grad_()
        for count in (6, 4, len(CLASSES))
    )

    def value(image, target, text):
        features = Features(image, text, torch.tensor(5.0))
        step = Step(trainer.clip, image, labels, features, domain, target)
        return trainer.terms["craft_mmd"](step)

    samples = (image, target, text) if domains == "unlabelled" else (image, target.detach(), text)
    assert torch.autograd.gradcheck(value, samples)
    gradients = torch.autograd.grad(
        value(*samples), [sample for sample in samples if sample.requires_grad]
    )
    assert all(gradient.abs().max() > 1e-4 for gradient in gradients)


def test_anchors_and_steps_see_training_images_alone(tmp_path, capsys):
    """Validation and test images are there, too, and the target has pictures of its own."""
    trainer = shifted(
        tmp_path, "unlabelled", {}, "TRAINER.CRAFT.LAMBDA_MMD", 1.0, "DATASET.NUM_SHOTS", 2
    )
    assert (
        f"static image anchors of {len(CLASSES)} classes from {2 * len(CLASSES)} images"
        in capsys.readouterr().out
    )
    data = trainer.dm.dataset
    assert len(data.val) == PARTS["val"] * len(CLASSES) and len(data.test) == PARTS["test"] * len(
        CLASSES
    )
    for label in range(len(CLASSES)):
        pictures = torch.stack(
            [
                trainer.dm.tfm_test(read_image(item.impath))
                for item in data.train_x
                if item.label == label
            ]
        )
        mean = trainer.backbone.encode_images(pictures).mean(0)
        assert torch.allclose(trainer.anchors.features[label], mean / mean.norm(), atol=1e-5)
    for loader, part in (
        (trainer.train_loader_x, "photo-train-"),
        (trainer.train_loader_u, "sketch-train-"),
    ):
        seen = {path for batch in loader for path in batch["impath"]}
        assert len(seen) == 2 * len(CLASSES) and all(part in path for path in seen)
