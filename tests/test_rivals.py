"""KgCoOp, ProGrad, TCP: the published numbers, and what users get wrong."""

import json

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_clip import TINY, check_gradients, fill, images, named_tensor, reference, vit_weights
from tiny_run import CLASSES, TinyNoise, make_trainer

import datasets
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from trainers.linear_probe import class_strength
from trainers.prograd import distillation, without_conflict
from trainers.step import Step

NODES = {"KgCoOp": "KGCOOP", "ProGrad": "PROGRAD", "TCP": "TCP"}
OFF = ("TRAINER.CRAFT.LAMBDA_STATIC", 0.0, "TRAINER.CRAFT.LAMBDA_STOCHASTIC", 0.0)


@DATASET_REGISTRY.register()
class RivalNames(TinyNoise):
    """TinyNoise's pictures under the class names of the reference files."""

    templates = ("a photo of a {}.",)
    names = tuple(reference("kgcoop")["case"]["classnames"])


def tiny(folder, name, *options):
    node = NODES[name.removeprefix("Craft")]
    layer = ("TRAINER.TCP.PROMPT_LAYER", 2)  # of three
    return make_trainer(folder, name, f"TRAINER.{node}.PREC", "fp32", *layer, *options)


def summary(name, tensor) -> list[float]:
    """Norm, and product with a direction, as the reference files have them."""
    along = (named_tensor(f"direction-{name}", tuple(tensor.shape)) * tensor).sum()
    return [tensor.norm().item(), along.item()]


@pytest.fixture
def case(tmp_path):
    """A function: trainer with the reference's parameters, {published name: parameter}, file, and
    a step on the reference's pictures.
    """

    def build(name, *options):
        expected = reference(name.lower())
        about = expected["case"]
        torch.save(vit_weights(**about["clip"]), tmp_path / "clip.pt")
        size = (about["clip"]["image"],) * 2
        node = NODES[name]
        trainer = make_trainer(
            tmp_path,
            name,
            *("DATASET.NAME", "RivalNames", "INPUT.SIZE", size, f"TRAINER.{node}.PREC", "fp32"),
            *options,
        )
        named = {f"prompt_learner.{key}": value for key, value in trainer.model.named_parameters()}
        shapes = {key: list(value.shape) for key, value in named.items()}
        assert shapes == expected["parameters"]
        for key, value in expected.get("initial_parameters", {}).items():
            assert summary(key, named[key].detach()) == pytest.approx(value, rel=1e-4)
        fill(named.items())
        frozen = summary("frozen_text_features", trainer.clip.zero_shot_texts)
        assert frozen == pytest.approx(expected["frozen_text_features"], rel=1e-4)
        return trainer, named, expected, images(about["batch"], about["clip"]["image"])

    return build


def step_on(trainer, pictures, labels=None) -> Step:
    features = trainer.clip.features(pictures)
    labels = torch.arange(len(pictures)) if labels is None else torch.tensor(labels)
    return Step(trainer.clip, pictures, labels, features)


@pytest.mark.parametrize("name", NODES)
def test_logits_and_gradients_agree_with_the_published_ones(case, name):
    trainer, named, expected, pictures = case(name)
    logits = trainer.clip.features(pictures).logits()
    loss = F.cross_entropy(logits, torch.arange(len(pictures)))
    loss.backward()
    assert torch.allclose(logits, torch.tensor(expected["logits"]), rtol=1e-4, atol=1e-4)
    assert loss.item() == pytest.approx(expected["cross_entropy"], rel=1e-4)
    check_gradients(expected["gradients"], named.items())


@pytest.mark.parametrize("name", ["KgCoOp", "TCP"])
def test_the_distance_of_texts_agrees_with_the_published_one(case, name):
    trainer, named, expected, pictures = case(name)
    prefix, step = name.lower(), step_on(trainer, pictures)
    cosines = F.cosine_similarity(step.features.text, trainer.clip.zero_shot_texts)
    assert cosines.tolist() == pytest.approx(expected[f"{prefix}_cosines"], rel=1e-4)
    terms, published = trainer.loss_terms(step), expected[f"{prefix}_terms"]
    assert terms["knowledge"].item() == pytest.approx(8 * published["knowledge"], rel=1e-4)
    terms["knowledge"].backward(retain_graph=True)
    check_gradients(expected[f"{prefix}_knowledge_gradients"], scaled(named, 1 / 8))
    for parameter in named.values():
        parameter.grad = None
    total = sum(terms.values())
    total.backward()
    assert total.item() == pytest.approx(published["total"], rel=1e-4)
    check_gradients(expected[f"{prefix}_gradients"], named.items())


def scaled(named, factor):
    """Parameters with `factor` times the gradients."""
    for name, parameter in named.items():
        copy = torch.nn.Parameter(parameter.detach())
        copy.grad = factor * parameter.grad
        yield name, copy


def test_the_prompts_of_classes_agree_with_the_published_ones(case):
    trainer, _, expected, _ = case("TCP")
    prompts = trainer.clip.prompts.of_classes(trainer.clip.zero_shot_texts).detach()
    assert list(prompts.shape) == expected["class_prompts"]["shape"]
    assert trainer.clip.options.PROMPT_LAYER == expected["class_prompts"]["before_block"]
    found = summary("class_prompts", prompts)
    assert found == pytest.approx(expected["class_prompts"]["summary"], rel=1e-4)


@pytest.mark.parametrize("place", range(4))
def test_a_step_of_prograd_is_the_published_one(case, place):
    """Through the trainer's own step, with an optimiser that takes the gradient as it is."""
    one = reference("prograd")["prograd"][place]
    options = ("TRAINER.PROGRAD.LAMBDA", one["lambda"], "OPTIM.LR", 1.0, "OPTIM.MOMENTUM", 0.0)
    trainer, named, expected, pictures = case("ProGrad", *options, "OPTIM.WEIGHT_DECAY", 0.0)
    frozen = trainer.clip.backbone.encode_images(pictures) @ trainer.clip.zero_shot_texts.t()
    logits = trainer.clip.backbone.scale * frozen
    assert torch.allclose(logits, torch.tensor(expected["zero_shot_logits"]), rtol=1e-4, atol=1e-4)
    before = {name: value.detach().clone() for name, value in named.items()}
    trainer.batch_idx, trainer.num_batches = 0, 9
    batch = {"img": pictures, "label": torch.tensor(one["labels"])}
    said = trainer.forward_backward(batch)
    assert said["guide"] == pytest.approx(one["kl"], rel=1e-4)
    assert said["loss"] == pytest.approx(one["cross_entropy"], rel=1e-4)
    made = {name: before[name] - value.detach() for name, value in named.items()}
    check_gradients(one["gradients"], [(name, graded(value)) for name, value in made.items()])
    assert one["conflicting"] == (one["cosine"] < 0)


def graded(gradient):
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient
    return parameter


def test_the_reference_has_steps_with_and_without_conflict():
    found = {(one["conflicting"], one["lambda"]) for one in reference("prograd")["prograd"]}
    assert len(found) == 4


def test_a_conflict_by_hand():
    guide = torch.tensor([[2.0, 0.0]])
    assert without_conflict(torch.tensor([[1.0, 3.0]]), guide, 1.0).tolist() == [[1, 3]]
    assert without_conflict(torch.tensor([[-1.0, 3.0]]), guide, 1.0).tolist() == [[0, 3]]
    assert without_conflict(torch.tensor([[-1.0, 3.0]]), guide, 0.5).tolist() == [[-0.5, 3]]
    zero = torch.zeros(1, 2)
    assert without_conflict(guide, zero, 1.0) is guide


def test_the_distillation_has_the_gradient_of_the_divergence():
    logits = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(3, 5, dtype=torch.double)
    divergence = 4 * F.kl_div(
        (logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean"
    )
    (ours,) = torch.autograd.grad(distillation(logits, teacher, 2.0), logits)
    (theirs,) = torch.autograd.grad(divergence, logits)
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("name", NODES)
def test_training_learns_resumes_and_tests(tmp_path, name):
    options = ("OPTIM.MAX_EPOCH", 3, "TRAIN.CHECKPOINT_FREQ", 1, "OPTIM.LR", 0.01)
    whole = tiny(tmp_path / "whole", name, *options)
    before = {key: value.clone() for key, value in whole.model.state_dict().items()}
    whole.train()
    after = whole.model.state_dict()
    assert all((after[key] - before[key]).abs().max() > 0 for key in before)
    half = tiny(tmp_path / "cut", name, *options)
    half.max_epoch = 1
    half.train()
    rest = tiny(tmp_path / "cut", name, *options)
    rest.train()
    assert rest.start_epoch == 1
    assert all(torch.equal(value, after[key]) for key, value in rest.model.state_dict().items())
    again = tiny(tmp_path / "again", name, *options)
    again.load_model(str(tmp_path / "whole/output"), epoch=3)
    assert all(torch.equal(value, after[key]) for key, value in again.model.state_dict().items())
    results = json.loads((tmp_path / "whole/output/results.json").read_text())
    assert again.test() == results["metrics"]["test"]["accuracy"]


@pytest.mark.parametrize("name", NODES)
def test_craft_without_weights_is_the_rival_to_the_bit(tmp_path, name):
    learned = []
    for kind in ("", "Craft"):
        trainer = tiny(tmp_path / (kind or "plain"), kind + name, *OFF)
        trainer.train()
        learned.append(trainer.model.state_dict())
    assert all(torch.equal(value, learned[1][key]) for key, value in learned[0].items())
    trainer = tiny(tmp_path / "on", f"Craft{name}")
    trainer.train()
    assert {"craft_static", "craft_stochastic"} <= set(trainer.terms)
    assert not all(
        torch.equal(value, learned[0][key]) for key, value in trainer.model.state_dict().items()
    )


def test_kgcoops_published_checkpoints_hold_a_network_without_use(tmp_path, capsys):
    trainer = tiny(tmp_path, "KgCoOp")
    state = {"ctx": torch.randn_like(trainer.model.ctx), "bias_vectors": torch.zeros(1, 512)}
    state |= {"meta_net.linear1.weight": torch.zeros(5, 5), "token_prefix": torch.zeros(4, 1, 64)}
    folder = tmp_path / "published/prompt_learner"
    folder.mkdir(parents=True)
    torch.save({"state_dict": state, "epoch": 5}, folder / "model.pth.tar-5")
    trainer.load_model(str(tmp_path / "published"), epoch=5)
    assert torch.equal(trainer.model.ctx, state["ctx"])
    assert "token_prefix, bias_vectors, meta_net.linear1.weight" in capsys.readouterr().out
    with pytest.raises(UserError, match="has 'bias_vectors', which this trainer does not learn"):
        make_trainer(tmp_path, "CoOp").load_model(str(tmp_path / "published"), epoch=5)


def test_prograds_words_are_the_last_vectors(tmp_path):
    def context(*options):
        return tiny(tmp_path, "ProGrad", *options).model.ctx.detach()

    made = context("TRAINER.PROGRAD.N_CTX", 6)  # of "a picture of a {}."
    backbone = tiny(tmp_path, "ProGrad").clip.backbone
    words = backbone.text.embed(backbone.tokenize(["a picture of a"]))[0, 1:5]
    assert not made[:2].any() and torch.equal(made[2:], words)
    assert context("TRAINER.PROGRAD.CTX_INIT", "").abs().min() > 0
    assert not context("TRAINER.PROGRAD.CTX_INIT", "an icon of")[:13].any()
    with pytest.raises(UserError, match=r"CTX_INIT has 4 words \('a picture of a'\) for 3 context"):
        context("TRAINER.PROGRAD.N_CTX", 3)


def test_prograd_and_tcp_take_their_published_templates(tmp_path):
    assert tiny(tmp_path, "ProGrad").clip.class_texts()[0] == "a picture of a tabby cat."
    for name, template, text in (
        ("ProGrad", "a type of pet, a photo of a {}.", None),
        ("TCP", "a photo of a {}, a type of pet.", "X X X X {}, a type of pet."),
        ("KgCoOp", "a photo of a {}, a type of pet.", None),
    ):
        trainer = tiny(tmp_path, name)
        cfg = trainer.cfg.clone()
        cfg.defrost()
        cfg.DATASET.NAME = "OxfordPets"
        kind = type(trainer)
        data = DATASET_REGISTRY.get("OxfordPets")
        templates = kind.templates_of(cfg, data)
        assert tuple(templates)[0] == template
        clip = kind.make_clip(cfg, trainer.clip.backbone, CLASSES, templates)
        assert text is None or clip.options.TEXT == text
        cfg.DATASET.TEMPLATE = "an icon of a {}."
        assert tuple(kind.templates_of(cfg, data)) == ("an icon of a {}.",)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("TRAINER.TCP.PROMPT_LAYER", 3), "has 3 layers, and prompts behind .* set it to 2 or l"),
        (("TRAINER.TCP.TEXT", "a {}."), "'a red.' has 3 tokens, and TCP replaces the first 4"),
        (("TRAINER.TCP.TEXT", "a b c d"), "is 'a b c d': write one {} where the"),
        (("TRAINER.TCP.CTX_INIT", "a photo"), "has 2 tokens for 4 context vectors: set TRAINER"),
    ],
)
def test_what_tcp_refuses(tmp_path, options, reason):
    with pytest.raises(UserError, match=reason):
        tiny(tmp_path, "TCP", *options)


def test_the_prompts_of_a_class_stay_with_its_text(tmp_path):
    """Texts of different length run apart: each group takes the prompts of its own classes."""
    trainer = tiny(tmp_path, "TCP")
    fill(trainer.model.named_parameters())
    clip = trainer.clip
    together = clip.text_features()
    embedded, eot = clip.prompts()
    classes = clip.prompts.of_classes(clip.zero_shot_texts)
    none = embedded.new_zeros(0, embedded.shape[-1])
    for place in range(len(CLASSES)):
        one = slice(place, place + 1)
        deep = [none, classes[one]]
        alone = F.normalize(clip.backbone.text(embedded[one], eot[one], None, deep), dim=-1)
        assert torch.allclose(together[one], alone, atol=1e-6)
    assert TINY["text_layers"] == 3


# Linear probe


def probe(folder, *options):
    given = ("TRAINER.LINEAR_PROBE.PREC", "fp32", "INPUT.TRANSFORMS", ("normalize",))
    return make_trainer(folder, "LinearProbe", *given, *options)


def test_the_probe_starts_as_zero_shot_clip(tmp_path):
    trainer = probe(tmp_path)
    pictures = images(3, TINY["image"])
    zero_shot = make_trainer(tmp_path, "ZeroshotCLIP")
    assert torch.allclose(trainer.clip.logits(pictures), zero_shot.clip.logits(pictures), atol=1e-5)


def test_the_weights_of_the_penalty_by_hand():
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.7, 0.1, 0.2], [0.1, 0.6, 0.3]])
    strength = class_strength(probabilities, torch.tensor([0, 0, 1]), 3)
    assert strength.tolist() == pytest.approx([0.6, 0.6, 0.0])


@pytest.mark.parametrize("penalty", ["class", "equal", "none"])
def test_the_probes_loss_is_that_of_a_slow_computation(tmp_path, penalty):
    options = ("TRAINER.LINEAR_PROBE.PENALTY", penalty, "TRAINER.LINEAR_PROBE.W", 2.0)
    trainer = probe(tmp_path, *options)
    trainer.before_train()
    clip, backbone = trainer.clip, trainer.backbone
    items = trainer.dm.dataset.train_x
    transform = trainer.test_loader.dataset.transform
    pictures = torch.stack([transform(Image.open(item.impath)) for item in items])
    features = F.normalize(backbone.image(pictures), dim=1)
    texts = backbone.encode_texts([f"a picture of a {name}." for name in trainer.classnames])
    zero_shot = (backbone.scale * features @ texts.t()).softmax(1)
    own = {label: [] for label in range(len(CLASSES))}
    for row, item in zip(zero_shot, items, strict=True):
        own[item.label].append(row[item.label].item())
    weights = torch.tensor([sum(values) / len(values) for values in own.values()])
    if penalty == "equal":
        weights = weights.mean().expand(len(CLASSES))
    with torch.no_grad():
        clip.prompts.weight += 0.1 * named_tensor("moved", tuple(clip.prompts.weight.shape))
    terms = trainer.loss_terms(step_on(trainer, pictures[:3], [item.label for item in items[:3]]))
    if penalty == "none":
        assert list(terms) == ["cross_entropy"]
        return
    tokens = backbone.tokenize([f"a picture of a {name}." for name in trainer.classnames])
    start = backbone.text.encode_tokens(tokens)
    distance = (clip.prompts.weight - start).square().sum(1)
    assert terms["distance"].item() == pytest.approx(2 * (weights * distance).mean().item(), 1e-4)


def test_a_penalty_keeps_the_probe_near_its_start(tmp_path):
    moved = []
    for weight in (0.0, 1.0, 100.0):
        trainer = probe(tmp_path / str(weight), "TRAINER.LINEAR_PROBE.W", weight, "OPTIM.LR", 0.001)
        trainer.train()
        clip = trainer.clip
        moved.append((clip.prompts.weight - clip.start).norm().item())
    assert moved[0] > moved[1] > moved[2] > 0


# Tip-Adapter


def tip(folder, *options):
    given = ("TRAINER.TIP_ADAPTER.PREC", "fp32", "OPTIM.MAX_EPOCH", 1)
    return make_trainer(folder, "TipAdapter", *given, *options)


def test_the_caches_logits_are_those_of_a_slow_computation(tmp_path):
    trainer = tip(tmp_path, "INPUT.TRANSFORMS", ("normalize",), "TRAINER.TIP_ADAPTER.VIEWS", 1)
    transform = trainer.train_loader_x.dataset.transform
    trainer.train()
    items, backbone = trainer.dm.dataset.train_x, trainer.backbone
    keys = torch.stack([transform(Image.open(item.impath)) for item in items])
    keys = F.normalize(backbone.image(keys), dim=1)
    pictures = images(3, TINY["image"])
    features = F.normalize(backbone.image(pictures), dim=1)
    texts = backbone.encode_texts([f"a picture of a {name}." for name in trainer.classnames])
    slow = backbone.scale * features @ texts.t()
    for row in range(3):
        for key, item in zip(keys, items, strict=True):
            slow[row, item.label] += torch.exp(-5.5 * (1 - features[row] @ key))
    assert torch.allclose(trainer.clip.logits(pictures), slow, atol=1e-4)


def test_the_cache_comes_from_the_checkpoint_and_not_from_the_images_of_a_test(tmp_path):
    trainer = tip(tmp_path)
    trainer.train()
    keys = trainer.model.keys.detach().clone()
    again = tip(tmp_path / "again", "EVAL_ONLY", True, "DATASET.ROOT", str(tmp_path / "data"))
    assert not len(again.model.keys)
    again.load_model(str(tmp_path / "output"), epoch=1)
    assert torch.equal(again.model.keys, keys) and again.test() == trainer.test()
    assert again.model.labels.tolist() == [item.label for item in trainer.dm.dataset.train_x]


def test_views_are_drawn_apart_and_their_mean_is_the_key(tmp_path):
    one, many = (tip(tmp_path, "TRAINER.TIP_ADAPTER.VIEWS", number) for number in (1, 3))
    assert one.model.keys.shape == many.model.keys.shape
    assert not torch.allclose(one.model.keys, many.model.keys, atol=1e-4)
    assert torch.allclose(many.model.keys.norm(dim=1), torch.ones(len(many.model.keys)))
    again = tip(tmp_path, "TRAINER.TIP_ADAPTER.VIEWS", 3)
    assert torch.equal(again.model.keys, many.model.keys)


def test_fine_tuning_trains_the_keys_alone(tmp_path):
    options = ("TRAINER.TIP_ADAPTER.FINE_TUNE", True, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.01)
    trainer = tip(tmp_path, *options)
    before = trainer.model.keys.detach().clone()
    trainer.train()
    assert not torch.equal(trainer.model.keys, before)
    assert [name for name, _ in trainer.model.named_parameters()] == ["keys"]


@pytest.mark.parametrize("name", ["LinearProbe", "TipAdapter"])
def test_a_checkpoint_of_classes_is_refused_for_others(tmp_path, name):
    build = {"LinearProbe": probe, "TipAdapter": tip}[name]
    build(tmp_path, "OPTIM.MAX_EPOCH", 1).train()
    other = build(tmp_path / "new", "DATASET.SUBSAMPLE_CLASSES", "new", "EVAL_ONLY", True)
    with pytest.raises(UserError, match="was learned for each class, and"):
        other.load_model(str(tmp_path / "output"), epoch=1)


def test_what_tip_adapter_refuses(tmp_path):
    with pytest.raises(UserError, match="trains nothing: set it to 1, or FINE_TUNE to True"):
        tip(tmp_path, "OPTIM.MAX_EPOCH", 2)
    with pytest.raises(UserError, match="without FINE_TUNE takes no loss terms"):
        tip(tmp_path, "TRAINER.TERMS", ("StochasticAlignment",))


# Templates of the frozen texts as the published codes have them: KgCoOp, ProGrad, TCP.
USUAL = "a photo of a {}."
TABLE = {
    "OxfordPets": ("a photo of a {}, a type of pet.", "a type of pet, a photo of a {}.", 0),
    "OxfordFlowers": (
        "a photo of a {}, a type of flower.",
        "a type of flower, a photo of a {}.",
        0,
    ),
    "FGVCAircraft": (
        "a photo of a {}, a type of aircraft.",
        "a type of aircraft, a photo of a {}.",
        "a photo of an aircraft {}.",
    ),
    "DescribableTextures": ("a photo of a {}, a type of texture.", "a texture of {}.", 0),
    "EuroSAT": ("a centered satellite photo of {}.", 0, 0),
    "Food101": (
        "a photo of {}, a type of food.",
        "a type of food, a photo of {}.",
        "a photo of a {}, a type of food.",
    ),
    "UCF101": ("a photo of a person doing {}.", 0, 0),
    **{name: (USUAL, 0, 0) for name in ("StanfordCars", "SUN397", "Caltech101", "ImageNet")},
}


@pytest.mark.parametrize("name", TABLE)
def test_frozen_templates_are_the_published_ones(name):
    """0 stands for KgCoOp's."""
    cfg = make_cfg_of(name)
    for trainer, template in zip(("KgCoOp", "ProGrad", "TCP"), TABLE[name], strict=True):
        kind = TRAINER_REGISTRY.get(trainer)
        found = tuple(kind.templates_of(cfg, DATASET_REGISTRY.get(name)))
        assert found[0] == (template or TABLE[name][0]), trainer


def make_cfg_of(name):
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    cfg.DATASET.NAME = name
    return cfg
