"""What keys of the configuration may hold: every key of the engine, the trainers and the data sets
is walked with values that nobody means.
"""

import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import datasets
import train
import trainers
from dassl import strict_yaml
from dassl.config import (
    MODEL,
    affects,
    as_before,
    cfg_to_dict,
    closest,
    counted,
    counts,
    get_cfg_default,
    keys,
    merge_from_dict,
    merge_from_list,
    rules,
)
from dassl.engine.trainer import check_basics
from dassl.optim import build_optimizer
from dassl.utils import UserError

ROOT = Path(__file__).resolve().parent.parent


def defaults():
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    return cfg


LEAVES = dict(rules.leaves(defaults()))
TEXTS = {name for name, value in LEAVES.items() if isinstance(value, str)}
LISTS = {name for name, value in LEAVES.items() if isinstance(value, (list, tuple))}
NUMBERS = {name for name, value in LEAVES.items() if type(value) in (int, float)}

# Which keys take a value that is wrong for most: everything else has to be refused.
ZERO = {
    "TRAINER.KGCOOP.W",
    "TRAINER.GROUP_DRO.WEIGHT",
    "TRAINER.GROUP_DRO.STEP",
    "TRAINER.GROUP_DRO.ADJUSTMENT",
    "TRAINER.ORTH_CAL.LAMBDA",
    "TRAINER.TCP.W",
    "TRAINER.PROGRAD.LAMBDA",
    "TRAINER.LINEAR_PROBE.W",
    "TRAINER.TIP_ADAPTER.ALPHA",
    "TRAINER.TIP_ADAPTER.BETA",
    "SEED",
    "INPUT.CROP_PADDING",
    "INPUT.GN_MEAN",
    "INPUT.GN_STD",
    "INPUT.RANDAUGMENT_M",
    "INPUT.COLORJITTER_B",
    "INPUT.COLORJITTER_C",
    "INPUT.COLORJITTER_S",
    "INPUT.COLORJITTER_H",
    "INPUT.RGS_P",
    "INPUT.GB_P",
    "DATASET.VAL_PERCENT",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "DATALOADER.TRAIN_X.N_DOMAIN",
    "DATALOADER.TRAIN_U.N_DOMAIN",
    "MODEL.HEAD.DROPOUT",
    "OPTIM.LR",
    "OPTIM.WEIGHT_DECAY",
    "OPTIM.MOMENTUM",
    "OPTIM.SGD_DAMPNING",
    "OPTIM.RMSPROP_ALPHA",
    "OPTIM.ADAM_BETA1",
    "OPTIM.ADAM_BETA2",
    "OPTIM.ADAM_EPS",
    "OPTIM.BASE_LR_MULT",
    "OPTIM.GAMMA",
    "OPTIM.WARMUP_EPOCH",
    "OPTIM.WARMUP_CONS_LR",
    "OPTIM.WARMUP_MIN_LR",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAINER.CACHED_VIEWS",
    "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT",
    "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT",
    "TRAINER.PROMPTSRC.GPA_MEAN",
    "TRAINER.CRAFT.LAMBDA_STATIC",
    "TRAINER.CRAFT.LAMBDA_STOCHASTIC",
    "TRAINER.CRAFT.LAMBDA_MMD",
    "TRAINER.CRAFT.KMEANS_SEED",
    "DATASET.CUT",
    "SELECTION.BUDGET",
    "TRAINER.IVLP.PROMPT_DEPTH_VISION",
    "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION",
}
MINUS_ONE = {
    "SEED",
    "INPUT.GN_MEAN",
    "DATASET.NUM_LABELED",
    "DATASET.NUM_SHOTS",
    "OPTIM.WARMUP_EPOCH",
    "TRAINER.PROMPTSRC.GPA_MEAN",
}
MINUS_SEVEN = {"SEED", "INPUT.GN_MEAN", "TRAINER.PROMPTSRC.GPA_MEAN"}
MINUS_HALF = {"INPUT.GN_MEAN", "TRAINER.PROMPTSRC.GPA_MEAN"}
NO_TEXT = {
    "OUTPUT_DIR",
    "RESUME",
    "DATASET.ROOT",
    "DATASET.NAME",
    "DATASET.TEMPLATE",
    "TRAINER.TCP.TEXT",
    "TRAINER.ORTH_CAL.ATTRIBUTE_TEXT",
    "TRAINER.ORTH_CAL.PAIR_TEXT",
    "DATASET.INDICES",
    "DATASET.REPEAT_FROM",
    "DATASET.FOLDER",
    "DATASET.TARGET",
    "DATASET.FOLD",
    "SELECTION.RULE",
    "SELECTION.ON",
    "SELECTION.CLIP",
    "SELECTION.CLASSES",
    "SELECTION.DIGEST",
    "MODEL.INIT_WEIGHTS",
    "MODEL.BACKBONE.NAME",
    "MODEL.HEAD.NAME",
    "TEST.SELECT_BY",
    "TRAINER.NAME",
    *(name for name in LEAVES if name.endswith(".CTX_INIT")),
}
NO_ITEM = {
    "TRAINER.ORTH_CAL.ATTRIBUTES",
    "INPUT.TRANSFORMS",
    "DATASET.SOURCE_DOMAINS",
    "DATASET.TARGET_DOMAINS",
    "MODEL.HEAD.HIDDEN_LAYERS",
    "OPTIM.NEW_LAYERS",
    "SELECTION.DATA",
    "TEST.METRICS",
    "TRAINER.TERMS",
}
NAMES = {
    "DATASET.SOURCE_DOMAINS",
    "DATASET.TARGET_DOMAINS",
    "OPTIM.NEW_LAYERS",
    "SELECTION.DATA",
    "TRAINER.ORTH_CAL.ATTRIBUTES",
}
WIDE = {
    name for name in NUMBERS if rules.KEYS[name].rule.fits(1e9)
}  # for values that are only large

WRONG = [
    (None, set()),
    (math.nan, set()),
    (math.inf, set()),
    (-math.inf, set()),
    (1e300, set()),
    (10**400, set()),
    (b"x", set()),
    (1j, set()),
    ({1, 2}, set()),
    ([None], set()),
    ([math.nan] * 3, set()),
    ([[1], [2], [3]], set()),
    ((True, False), set()),
    ((-1.5, "a"), set()),
    ((math.inf, 1, 1), set()),
    (["", ""], set()),
    (0, ZERO),
    (-1, MINUS_ONE),
    (-7, MINUS_SEVEN),
    (-0.5, MINUS_HALF),
    ("", NO_TEXT),
    ((), NO_ITEM),
    ([], NO_ITEM),
    ("a\x1b]0;title\x07", set()),
    ("a\nb", set()),
    ("None", TEXTS),
    (("a",), NAMES),
    (("a", "b", "c"), NAMES),
]


def refused(name: str, merge) -> bool:
    """Whether `merge(cfg)` ends in one sentence that names the key; any other exception is the
    test's failure.
    """
    try:
        merge(defaults())
    except UserError as error:
        assert name in str(error) and "\n" not in str(error), str(error)
        return True
    return False


def nested(name: str, value) -> dict:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(("value", "meant"), WRONG, ids=[repr(value)[:20] for value, _ in WRONG])
def test_every_key_refuses_what_it_cannot_mean(value, meant):
    for name, default in LEAVES.items():
        accepted = not refused(
            name, lambda cfg: merge_from_dict(cfg, nested(name, value), " (in 'x.yaml')")
        )
        # Numbers where text is expected are the text that they are written as; lists may be of such
        # texts.
        as_text = (
            name in TEXTS and type(value) in (int, float) and rules.KEYS[name].rule.fits(str(value))
        )
        as_texts = (
            name in NAMES
            and isinstance(value, (list, tuple))
            and all(type(item) in (int, float, str) and item != "" for item in value)
        )
        choice = value == "None" and isinstance(
            rules.KEYS[name].rule, (rules.OneOf, rules.Path, rules.Template)
        )
        assert accepted == (
            as_text or as_texts and len(value) > 0 or name in meant and not choice
        ), f"{name} {default!r}"


@pytest.mark.parametrize(
    "text",
    [
        "None",
        "nan",
        "inf",
        "-1e300",
        "9" * 30,
        "{[]: 1}",
        "(1, 'a')",
        "[[1, 2], 3]",
        "((((",
        "b'x'",
        "[" * 500,
        "1j",
        "True, 1",
    ],
)
def test_no_text_of_a_command_line_ends_in_another_exception(text):
    for name in LEAVES:
        if not refused(name, lambda cfg: merge_from_list(cfg, [name, text])):
            assert name in TEXTS | WIDE | NAMES, name


def test_a_configuration_that_upstreams_yacs_merged_is_checked_too():
    for name in LEAVES:

        def merge(cfg, name=name):
            node, _, leaf = name.rpartition(".")
            for part in node.split(".") if node else ():
                cfg = cfg[part]
            cfg[leaf] = None

        cfg = defaults()
        merge(cfg)
        with pytest.raises(UserError, match=f"^{name} is None: "):
            check_basics(cfg)


def test_true_is_no_number_and_one_is_not_true():
    for name, default in LEAVES.items():
        if name in NUMBERS:
            assert refused(name, lambda cfg: merge_from_list(cfg, [name, "True"])), name
        if isinstance(default, bool):
            assert refused(name, lambda cfg: merge_from_list(cfg, [name, "1"])), name


def test_every_key_has_a_rule_that_its_default_fits():
    assert LEAVES.keys() <= rules.KEYS.keys()
    assert all(rules.KEYS[name].rule.fits(default) for name, default in LEAVES.items())
    check_basics(defaults())


TOGETHER = {
    "nesterov": (
        ["OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", "True", "OPTIM.MOMENTUM", "0"],
        "OPTIM.SGD_NESTEROV is True: it needs OPTIM.MOMENTUM",
    ),
    "no step": (
        ["OPTIM.LR_SCHEDULER", "multi_step"],
        r"OPTIM.STEPSIZE is \(-1,\): with OPTIM.LR_SCHEDULER multi_step give",
    ),
    "wide blur": (
        ["INPUT.TRANSFORMS", "('gaussian_blur',)", "INPUT.SIZE", "(32, 8)", "INPUT.GB_K", "17"],
        "INPUT.GB_K is 17: .* twice .* 8 pixels",
    ),
    "metric": (
        ["TEST.SELECT_BY", "gap"],
        "TEST.SELECT_BY is 'gap': with TEST.EVALUATOR Classification choose one of accuracy",
    ),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_values_that_do_not_go_together(case):
    pairs, message = TOGETHER[case]
    cfg = defaults()
    merge_from_list(cfg, pairs)
    with pytest.raises(UserError, match=message):
        check_basics(cfg)


def test_staged_rates_reach_every_parameter_and_name_parts_that_are_there():
    cfg = defaults()
    merge_from_list(
        cfg,
        [
            "OPTIM.STAGED_LR",
            "True",
            "OPTIM.NEW_LAYERS",
            "('head',)",
            "OPTIM.LR",
            "0.5",
            "OPTIM.BASE_LR_MULT",
            "0.5",
        ],
    )
    model = torch.nn.Module()
    model.own, model.body, model.head = (
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Linear(2, 3),
        torch.nn.Linear(3, 4),
    )
    rates = {
        parameter: group["lr"]
        for group in build_optimizer(model, cfg.OPTIM).param_groups
        for parameter in group["params"]
    }
    assert {name: rates[parameter] for name, parameter in model.named_parameters()} == {
        "own": 0.25,
        "body.weight": 0.25,
        "body.bias": 0.25,
        "head.weight": 0.5,
        "head.bias": 0.5,
    }
    merge_from_list(cfg, ["OPTIM.NEW_LAYERS", "('heads',)"])
    with pytest.raises(
        UserError, match="OPTIM.NEW_LAYERS names 'heads': the model's parts are body, head"
    ):
        build_optimizer(model, cfg.OPTIM)


EARLY = {
    "OPTIM.NAME": ("sdg", "did you mean 'sgd'?"),
    "OPTIM.LR_SCHEDULER": ("cosin", "choose one of single_step"),
    "OPTIM.WARMUP_TYPE": ("fast", "choose one of constant, linear"),
    "DATALOADER.TRAIN_X.SAMPLER": ("RandomSample", "did you mean 'RandomSampler'?"),
    "DATALOADER.TEST.SAMPLER": (
        "RandomClassSampler",
        "choose one of SequentialSampler, RandomSampler",
    ),
    "TEST.EVALUATOR": ("Clasification", "choose one of Classification"),
    "INPUT.INTERPOLATION": ("cubic", "choose one of bilinear"),
    "INPUT.TRANSFORMS": ("('normalise',)", "give a list of some of random_resized_crop"),
    "TRAINER.COOP.PREC": ("fp64", "choose one of fp32"),
    "MODEL.BACKBONE.INPUT": ("auto", "choose one of model, config"),
    "DATASET.SUBSAMPLE_CLASSES": ("novel", "choose one of all, base, new"),
    "VERSION": ("2", "choose one of 1"),
    "OPTIM.LR": ("1e300", r"set it to a number from 0 to 1e\+30"),
    "INPUT.GB_K": ("4", "set it to an odd whole number from 1"),
    "DATASET.NUM_SHOTS": ("0", "set it to -1 or 1 or more"),
    "DATASET.FOLDER": ("~nobody-of-that-name/x", "no home folder is known for it"),
    "RESUME": ("None", "leave it empty, or write ./None for a path of that name"),
    "OUTPUT_DIR": (os.fsdecode(b"caf\xe9"), "TensorBoard writes to UTF-8 names only"),
}


@pytest.mark.parametrize("name", EARLY)
def test_names_that_nothing_has_are_refused_before_anything_is_read(name):
    value, message = EARLY[name]
    with pytest.raises(UserError, match=message):
        merge_from_list(defaults(), [name, value])


@pytest.mark.parametrize(
    ("template", "right"),
    [
        ("a photo of a {}.", True),
        ("", True),
        ("a photo", False),
        ("{} and {}", False),
        ("a {} of {x}", False),
        ("a {{}}", False),
        ("a {} }", False),
    ],
)
def test_a_template_has_one_place_for_the_name(template, right):
    assert rules.template().fits(template) == right


# Text stays as it was written.


@pytest.mark.parametrize(
    "text",
    ["2024", "no", "1e3", "1_000", "010", "1.50", "12:30", "2024-01-31", "0x10", "Null island"],
)
def test_text_of_a_yaml_file_is_what_stands_there(text):
    cfg = defaults()
    merge_from_dict(
        cfg,
        strict_yaml.load(f"DATASET: {{FOLDER: {text}, SOURCE_DOMAINS: [{text}, b]}}", scalars=True),
    )
    assert cfg.DATASET.FOLDER == text and cfg.DATASET.SOURCE_DOMAINS == (text, "b")


def test_whole_numbers_of_a_yaml_file_merge_into_floats_and_ambiguous_ones_are_refused():
    cfg = defaults()
    merge_from_dict(
        cfg,
        strict_yaml.load(
            "TRAINER: {PROMPTSRC: {GPA_MEAN: 45, GPA_STD: 5}}\n"
            "OPTIM: {LR: 1e-3, SGD_DAMPNING: 0.5}",
            scalars=True,
        ),
    )
    assert cfg.TRAINER.PROMPTSRC.GPA_MEAN == 45.0 and isinstance(
        cfg.TRAINER.PROMPTSRC.GPA_MEAN, float
    )
    assert cfg.OPTIM.LR == 1e-3 and cfg.OPTIM.SGD_DAMPNING == 0.5
    for text, taken in (("010", 8), ("1:30", 90)):
        with pytest.raises(
            UserError,
            match=rf"OPTIM.MAX_EPOCH \(in 'x'\) is {text}, which YAML takes for {taken}: write "
            "the number in decimals",
        ):
            merge_from_dict(
                defaults(),
                strict_yaml.load(f"OPTIM: {{MAX_EPOCH: {text}}}", scalars=True),
                " (in 'x')",
            )
    with pytest.raises(
        UserError,
        match=r"DATASET.NAME \(in 'x'\) is None: write a text, or two quotes for an empty one",
    ):
        merge_from_dict(
            defaults(), strict_yaml.load("DATASET: {NAME: }", scalars=True), " (in 'x')"
        )


@pytest.mark.parametrize(
    ("group", "key", "text", "shown", "taken"),
    [
        ("INPUT", "SIZE", "[0224, 0224]", "0224", "148"),
        ("OPTIM", "STEPSIZE", "[10, 020]", "020", "16"),
        ("OPTIM", "LR", "1:30.5", "1:30.5", "90.5"),
    ],
)
def test_ambiguous_numbers_in_lists_and_with_fractions_are_refused(group, key, text, shown, taken):
    tree = strict_yaml.load(f"{group}: {{{key}: {text}}}", scalars=True)
    with pytest.raises(UserError) as error:
        merge_from_dict(defaults(), tree, " (in 'x')")
    assert str(error.value) == (
        f"{group}.{key} (in 'x') is {shown}, which YAML takes for {taken}: write the number in "
        "decimals"
    )


@pytest.mark.parametrize("text", ["8", "-8", "+8", "0", "1_000", "0x10", ".5", "1.50", "1.0e+3"])
def test_numbers_that_yaml_and_people_read_alike(text):
    assert not strict_yaml.load(text, scalars=True).misread


@pytest.mark.parametrize("scalars", [False, True])
def test_a_key_is_given_once_in_a_mapping_of_yaml(scalars):
    """Also where the keys of a merged mapping lie beside a mapping's own."""
    for text, said in (
        ("a: 1\nb: 2\na: 3", "'a' is given twice, in lines 1 and 3: take one out"),
        (
            "a: &a {x: 1}\nb:\n  <<: *a\n  <<: {x: 5}",
            "'<<' is given twice, in lines 3 and 4: write one, <<: [*first, *second]",
        ),
    ):
        with pytest.raises(strict_yaml.yaml.YAMLError, match=re.escape(said)):
            strict_yaml.load(text, scalars)
    known = strict_yaml.load(
        "a: &a {key: b}\np: {q: &q {<<: *a, key: c}}\nr: {<<: *q}\ns: {<<: [*a, {other: e}]}",
        scalars,
    )
    assert known["p"]["q"] == known["r"] == {"key": "c"}
    assert known["s"] == {"key": "b", "other": "e"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 3000 + "]" * 3000, "brackets or blocks are nested too deeply"),
        ("a: 2024-13-01", "month must be in"),
        ("a: &x [*x]\n? [1]\n: 2", "unhashable"),
    ],
)
def test_what_yaml_cannot_read_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"config file '{path}' is not valid YAML: .*{message}"):
        train.read_config(str(path))


# The nearest key


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("optim.lr", "OPTIM.LR"),
        ("LR", "OPTIM.LR"),
        ("OPTIM.LRR", "OPTIM.LR"),
        ("DATASET.SIZE", "INPUT.SIZE"),
        ("MODEL.NUM_SHOTS", "DATASET.NUM_SHOTS"),
        ("OPTIM.MAXEPOCH", "OPTIM.MAX_EPOCH"),
        ("max_epochs", "OPTIM.MAX_EPOCH"),
        ("TRAINER.LAMBDA_STATIC", "TRAINER.CRAFT.LAMBDA_STATIC"),
        ("DATALOADER.TRAIN.BATCH_SIZE", "DATALOADER.TRAIN_X.BATCH_SIZE"),
        ("TRAINER.CoOp.N_CTX", "TRAINER.COOP.N_CTX"),
        ("TRAINER.CRAFT.SIGMA", "TRAINER.CRAFT.MMD.SIGMAS"),
    ],
)
def test_the_closest_key(wrong, nearest):
    assert closest(wrong, list(LEAVES))[0] == nearest


def test_a_whole_group_at_the_wrong_place_is_named_by_its_first_key():
    with pytest.raises(
        UserError,
        match=(
            r"unknown config key 'optim.max_epoch' \(in 'x'\): the closest known key is "
            r"'OPTIM.MAX_EPOCH'"
        ),
    ):
        merge_from_dict(defaults(), {"optim": {"max_epoch": 3}}, " (in 'x')")
    with pytest.raises(
        UserError,
        match="unknown config key 'COOP.CSC': the closest known key is 'TRAINER.COOP.CSC'",
    ):
        merge_from_dict(defaults(), {"COOP": {"CSC": True}})
    for tree in ({"TRAINER.COOP.CSC": True}, {"TRAINER": {"COOP.CSC": True}}):
        with pytest.raises(
            UserError,
            match=r"config key 'TRAINER.COOP.CSC' \(in 'x'\) is written with dots, but a file "
            "nests its groups: write TRAINER: COOP: and, indented below it, CSC:",
        ):
            merge_from_dict(defaults(), tree, " (in 'x')")
    with pytest.raises(
        UserError,
        match="closest known keys are 'DATALOADER.TEST.BATCH_SIZE', "
        "'DATALOADER.TRAIN_X.BATCH_SIZE', ",
    ):
        merge_from_list(defaults(), ["BATCH_SIZE", "3"])


# Declaring


def test_declared_defaults_are_fresh_each_time_and_rules_are_no_part_of_the_configuration():
    first, second = defaults(), defaults()
    first.TRAINER.CRAFT.MMD.SIGMAS.append(3.0)
    assert second.TRAINER.CRAFT.MMD.SIGMAS == [1.0]
    assert (
        pickle.loads(pickle.dumps(second)) == second
        and cfg_to_dict(second)["TRAINER"]["COOP"]["N_CTX"] == 16
    )


def test_a_key_without_a_rule_takes_that_of_its_type_and_keys_of_others_take_anything(monkeypatch):
    monkeypatch.setattr(rules, "KEYS", dict(rules.KEYS))
    cfg = defaults()
    rules.declare(
        cfg,
        "TRAINER.OWN",
        {
            "STEPS": 3,
            "RATE": 0.5,
            "ON": True,
            "WORDS": "a b",
            "DEEP": {"DEPTH": rules.key(2, rules.whole(1, 4))},
        },
    )
    cfg.TRAINER.ALIEN = type(cfg)({"THING": 1.0})
    merge_from_dict(cfg, {"TRAINER": {"ALIEN": {"THING": None}}})
    for name, value in (
        ("STEPS", 1.5),
        ("RATE", math.nan),
        ("ON", 1),
        ("WORDS", None),
        ("DEEP.DEPTH", 5),
    ):
        with pytest.raises(UserError, match=f"TRAINER.OWN.{name}"):
            merge_from_dict(cfg, nested(f"TRAINER.OWN.{name}", value))


@pytest.mark.parametrize("module", [trainers, datasets], ids=["trainers", "data sets"])
def test_defaults_are_the_same_where_dassl_has_no_rules(monkeypatch, module):
    from datasets.options import _DefaultsOnly as OfDatasets
    from trainers.options import _DefaultsOnly as OfTrainers

    ours = get_cfg_default()
    module.extend_cfg(ours)
    for part in (trainers, *trainers.MODULES, trainers.craft.plugin):
        if hasattr(part, "rules"):
            monkeypatch.setattr(part, "rules", OfTrainers())
    monkeypatch.setattr(datasets, "rules", OfDatasets())
    theirs = get_cfg_default()
    module.extend_cfg(theirs)
    assert theirs == ours


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "configs").rglob("*.yaml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_published_config_loads(path):
    # plans, and which config is the default
    if path.parent.name in ("sweeps", "selections", "configs"):
        assert strict_yaml.load(path.read_text())
        return
    cfg = defaults()
    for file, tree in train.read_config(str(path)):
        merge_from_dict(cfg, tree, f" (in '{file}')")
    check_basics(cfg)


# What a key affects


def test_every_key_says_in_whole_sentences_what_it_is():
    for name in LEAVES:
        words = rules.KEYS[name].help
        assert words.endswith(".") and rules.KEYS[name].rule.allowed(), name


def test_what_a_key_affects_decides_whether_it_is_in_the_hash():
    before = counted(defaults())
    for name in LEAVES:
        assert (name in before) == (counts(name) and LEAVES[name] not in as_before(name)), name
    assert {name for name in LEAVES if not counts(name)} == keys("nothing", "log").keys()


def test_a_checkpoint_is_bound_to_the_keys_that_affect_the_model():
    assert (
        affects("TRAINER.NAME") == affects("TRAINER.COOP.N_CTX") == affects("INPUT.SIZE") == MODEL
    )
    assert affects("TRAINER.ALIEN.THING") == MODEL, "a key that another code added"
    for name in ("MODEL.INIT_WEIGHTS", "TRAINER.COMPILE", "TRAINER.COOP.PREC", "OPTIM.LR"):
        assert affects(name) == "result", name


def test_an_unknown_effect_is_refused_where_the_key_is_declared():
    with pytest.raises(ValueError, match="affects is 'speed': choose one of nothing, log, result"):
        rules.key(1, affects="speed")


def test_the_declarations_are_known_without_torch():
    code = (
        "import sys, dassl.config as c; c.keys('log')['LOG.WANDB']; sys.exit('torch' in "
        "sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
