"""tools.configs: names of configs -> files, presets of CRAFT, defaults, trainers by their names."""

import shutil
from pathlib import Path

import pytest

import train
from dassl.config import cfg_to_dict
from dassl.engine import TRAINER_REGISTRY, run_hash
from dassl.record import flat
from tools import configs, plans
from tools.inputs import InputError
from trainers.craft import Craft
from trainers.zsclip import ZeroshotCLIP

ROOT = Path(__file__).resolve().parent.parent
STRUCTURES = configs.structures()
OPTIONS = {  # what the presets say, and no more
    "default": {"LAMBDA_STATIC": 0.5, "LAMBDA_STOCHASTIC": 0.5, "LAMBDA_MMD": 0.0},
    "mmd": {
        "LAMBDA_STATIC": 0.5,
        "LAMBDA_STOCHASTIC": 0.5,
        "LAMBDA_MMD": 1.0,
        "DOMAINS": "unlabelled",
    },
    "group": {
        "LAMBDA_STATIC": 0.5,
        "LAMBDA_STOCHASTIC": 0.5,
        "LAMBDA_MMD": 1.0,
        "DOMAINS": "group",
    },
}


def merged(trainer: str, config: str):
    files = [
        word
        for file in configs.files(trainer, config)
        for word in ("--config-file", str(ROOT / file))
    ]
    data = str(ROOT / configs.dataset_file("emoji"))
    return train.setup_cfg(
        train.parse_args(["--trainer", trainer, "--dataset-config-file", data, *files])
    )


@pytest.mark.parametrize("structure", list(filter(configs.takes_craft, STRUCTURES)))
def test_a_preset_adds_crafts_options_to_the_baseline_and_nothing_else(structure):
    for config in configs.names(structure):
        baseline = cfg_to_dict(merged(structure, config))
        untouched = baseline["TRAINER"]["CRAFT"]
        own = configs.stems(f"trainers/Craft{structure}")  # selected for themselves
        for preset, options in OPTIONS.items():
            if configs.joined(config, preset) in own:
                continue
            crafted = cfg_to_dict(merged(f"Craft{structure}", configs.joined(config, preset)))
            craft = crafted["TRAINER"].pop("CRAFT")
            known = {**craft, **craft["MMD"]}
            assert {key: known[key] for key in options} == options
            rest = {key: value for key, value in craft.items() if key not in (*options, "MMD")}
            assert rest == {key: untouched[key] for key in rest}
            crafted["TRAINER"]["NAME"], crafted["TRAINER"]["CRAFT"] = structure, untouched
            assert crafted == baseline


@pytest.mark.parametrize(
    ("trainer", "config", "before"),
    [
        ("CraftCoOp", "rn50_ep50_ctxv1", "5475968dad8e"),
        ("CraftMaPLe", "vit_b16_c2_ep5_batch4_2ctx", "d15e58979f14"),
        ("CraftPromptSRC", "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets_mmd", "206c6600be1c"),
        ("CraftCoCoOp", "vit_b16_c16_ep10_batch1", "2e7bd570ff0c"),
        ("CraftVPT", "vit_b16_c2_ep5_batch4_4_mmd", "f4327940bcb5"),
    ],
)
def test_hashes_are_those_of_the_files_that_each_craft_trainer_had(trainer, config, before):
    cfg = merged(trainer, config)
    cfg.defrost()
    cfg.DATASET.NAME = "OpenMoji"  # a data set of that time
    assert run_hash(cfg, {}) == before


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of configs/, to which a test adds files of its own."""
    caches = (configs.presets, configs.stems, configs.trainers, configs._parsed)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.setattr(configs, "ROOT", tmp_path)
    monkeypatch.setattr(configs, "CONFIGS", tmp_path / "configs")
    for cache in caches:
        cache.cache_clear()
    yield tmp_path / "configs/trainers"
    for cache in caches:
        cache.cache_clear()


def add(path: Path, text: str = "BASE: ../../base/drawings.yaml\n") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_a_config_whose_own_name_ends_as_a_preset_does_is_that_config(own):
    add(own / "CoOp/drawings_group.yaml")
    add(own / "CraftCoOp/drawings_mmd.yaml")
    add(own / "CraftCoOp/mine_mmd.yaml")
    assert configs.split("CraftCoOp", "drawings_group") == ("drawings_group", "default")
    files = ["configs/trainers/CoOp/drawings_group.yaml", "configs/craft/default.yaml"]
    assert configs.files("CraftCoOp", "drawings_group") == files
    assert configs.split("CraftCoOp", "drawings_group_mmd") == ("drawings_group", "mmd")
    assert configs.split("CraftCoOp", "drawings_mmd") == ("drawings", "mmd")  # has a baseline
    assert configs.split("CraftCoOp", "mine_mmd") == ("mine_mmd", "default")
    assert configs.crafted("CoOp", "drawings", "mmd") == "drawings_mmd"
    with pytest.raises(InputError, match="'drawings_group' of CraftCoOp is ambiguous"):
        configs.crafted("CoOp", "drawings", "group")


def test_every_config_says_what_it_is_for():
    for path in (ROOT / "configs/craft").glob("*.yaml"):
        assert path.read_text().startswith("# ")


def test_the_page_names_every_preset():
    page = (ROOT / "docs/running.md").read_text()
    assert all(f"`{preset}`" in page for preset in configs.presets())


def test_files_names_and_presets():
    assert configs.files("CoOp", "vit_b16") == ["configs/trainers/CoOp/vit_b16.yaml"]
    baseline = "configs/trainers/MaPLe/drawings.yaml"
    for config, preset in (
        ("drawings", "default"),
        ("drawings_mmd", "mmd"),
        ("drawings_group", "group"),
    ):
        files = configs.files("CraftMaPLe", config)
        assert files == [baseline, f"configs/craft/{preset}.yaml"]
        assert configs.name_of(files) == config
        assert configs.split("CraftMaPLe", config) == ("drawings", preset)
        assert configs.split("MaPLe", config) == (config, "")
    assert {"default", "mmd", "group"} <= set(configs.presets())


@pytest.mark.parametrize(
    ("trainer", "config", "message"),
    [
        (
            "CraftCoop",
            "vit_b16",
            "unknown trainer 'CraftCoop': did you mean 'CraftCoOp'? known ones are CoCoOp, ",
        ),
        (
            "CraftZeroshotCLIP",
            "vit_b16",
            "unknown trainer 'CraftZeroshotCLIP': did you mean 'ZeroshotCLIP'?",
        ),
        (
            "CoOp",
            "vit_b61",
            "unknown config of CoOp 'vit_b61': did you mean 'vit_b16'? known ones are drawings, "
            "groups, ",
        ),
        ("CoOp", "drawings_mmd", "unknown config of CoOp 'drawings_mmd': did you mean 'drawings'?"),
        (
            "CraftCoOp",
            "drawings_mdm",
            "did you mean 'drawings_mmd'? known ones are drawings, groups, ",
        ),
        ("CraftCoOp", "drawings_mdm", "each also with _group or _mmd"),
    ],
)
def test_what_is_unknown_lists_what_exists_and_the_nearest(trainer, config, message):
    with pytest.raises(InputError) as caught:
        configs.files(trainer, config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "trainer", "backbone", "config"),
    [
        ("emoji", "CraftVPT", "", "suite"),
        ("emoji", "TipAdapter", "", "suite"),
        ("oxford_pets", "CraftMaPLe", "", "vit_b16_c2_ep5_batch4_2ctx"),
        ("oxford_pets", "VPT", "", "vit_b16_c2_ep5_batch4_4"),
        ("emoji", "CoOp", "rn50", "rn50_ctxv1"),
        ("dtd", "ZeroshotCLIP2", "rn50", "rn50"),
    ],
)
def test_a_trainer_has_a_default_config_for_a_backbone(dataset, trainer, backbone, config):
    assert configs.default(dataset, trainer, backbone) == config


# One protocol is for generalisation and adaptation, whose papers have other settings; a control and
# tables of settings that were selected for them alone, have others on purpose.
OTHERS = {"adaptation", "suite_control", "suite_groups_selected", "suite_released", "suite_shifted"}


@pytest.mark.parametrize("plan", sorted({*configs.stems("sweeps")} - OTHERS))
def test_the_default_configs_are_those_of_the_shipped_plans(plan):
    """A trainer may stand in a plan with several configs: the rows of group papers."""
    cells = {}
    for job in plans.read_plan(str(ROOT / f"configs/sweeps/{plan}.yaml")).jobs:
        if not job.run.protocol:  # JTT's first runs on training images
            continue
        plain = configs.split(job.trainer, job.config)[0]
        place = job.run.protocol, job.run.source, configs.structure_of(job.trainer)
        cells.setdefault(place, set()).add(plain)
    for (protocol, dataset, trainer), known in cells.items():
        assert configs.default(dataset, trainer, protocol=protocol) in known


BAD_CONFIGS = {
    "bad YAML": ("BASE: [", "is not valid YAML"),
    "a list": ("- BASE", "holds no 'KEY: value' pairs"),
    "a missing BASE": ("BASE: nowhere.yaml", "cannot be read (No such file or directory)"),
    "a missing absolute BASE": ("BASE: /nowhere/a.yaml", "'/nowhere/a.yaml' cannot be read"),
    "a circle": ("BASE: mine.yaml", "mine.yaml' includes itself through BASE"),
    "a BASE that is no text": ("BASE: {A: 1}", "BASE (in '"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_an_odd_config_stops_only_who_uses_it(own, case):
    text, message = BAD_CONFIGS[case]
    add(own / "VPT/mine.yaml", text)
    add(own / "IVLP/rn50.yaml", "BASE: ../../base/rn50.yaml")
    add(own / "IVLP/mine.yaml", text)
    assert configs.default("dtd", "VPT") == "vit_b16_c2_ep5_batch4_4"
    assert configs.default("dtd", "CraftIVLP", "rn50") == "rn50"
    with pytest.raises(InputError) as caught:
        configs.backbone_of("configs/trainers/VPT/mine.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["DATASET: [a]", "DATASET: {NAME: [a]}", "- DATASET", "DATASET: ["]
)
def test_a_data_set_without_a_name_is_named(own, text):
    (own.parent / "datasets/mine.yaml").write_text(text)
    configs.stems.cache_clear()
    with pytest.raises(InputError, match="configs/datasets/mine.yaml"):
        configs.registered("mine")


def test_a_config_of_one_s_own_leaves_the_defaults(own):
    for structure in configs.structures():
        add(own / structure / "mine.yaml")
        add(own / structure / "other.yaml", "BASE: ../../base/vit_b16.yaml\n")
    configs.stems.cache_clear()
    for trainer in configs.trainers():
        assert configs.default("emoji", trainer) in ("drawings", "suite")
        assert configs.default("dtd", trainer).startswith("vit_b16")


def test_an_absolute_base_tells_the_backbone(own, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "common.yaml"
    elsewhere.write_text(f"BASE: {own.parent}/base/rn50.yaml")
    add(own / "VPT/mine.yaml", f"BASE: {elsewhere}")
    assert configs.backbone_of("configs/trainers/VPT/mine.yaml") == "rn50"


def test_a_config_with_the_name_of_the_default_preset_keeps_its_name():
    preset = "configs/craft/default.yaml"
    assert configs.name_of(["mine/default.yaml", preset]) == "default"
    assert configs.name_of(["configs/trainers/CoOp/drawings.yaml", preset]) == "drawings"


def test_where_no_default_config_is_known_the_choices_are_named():
    with pytest.raises(
        InputError,
        match="VPT has no configs for rn50: name one of drawings, groups, shifted, suite, vit_b16_",
    ):
        configs.default("dtd", "VPT", "rn50")
    with pytest.raises(InputError, match="unknown backbone 'vit_b61': did you mean 'vit_b16'"):
        configs.default("dtd", "VPT", "vit_b61")


def test_every_trainer_has_a_default_for_the_papers_and_for_the_bundled_data_sets():
    for trainer in configs.trainers():
        for dataset in ("emoji", "imagenet"):
            configs.files(trainer, configs.default(dataset, trainer))


def test_names_tell_of_trainers_what_their_classes_are():
    for name in configs.trainers():
        kind = TRAINER_REGISTRY.get(name)
        assert configs.has_craft(name) == issubclass(kind, Craft)
        assert configs.learns(name) != issubclass(kind, ZeroshotCLIP)
        structure = TRAINER_REGISTRY.get(configs.structure_of(name))
        assert issubclass(kind, structure) and not issubclass(structure, Craft)


@pytest.mark.parametrize(
    ("trainer", "config", "learning"),
    [
        ("MaPLe", "vit_b16_c2_ep20_batch128_2ctx", (128, 0.01, 20)),
        ("MaPLe", "vit_b16_c2_ep2_batch128_2ctx_cross_datasets", (128, 0.01, 2)),
        ("PromptSRC", "vit_b16_c2_ep20_batch128_4+4ctx", (128, 0.01, 20)),
    ],
)
def test_the_settings_of_the_authors_release(trainer, config, learning):
    cfg = merged(trainer, config)
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH) == learning
    depth = (
        cfg.TRAINER.MAPLE.PROMPT_DEPTH
        if trainer == "MaPLe"
        else cfg.TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT
    )
    assert depth == (3 if "cross" in config else 9)


@pytest.mark.parametrize(
    "structure", ["CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe", "PromptSRC", "ZeroshotCLIP"]
)
@pytest.mark.parametrize("stem, name", [("vit_l14", "ViT-L/14"), ("vit_l14_336", "ViT-L/14@336px")])
def test_a_config_for_vit_l14_has_the_settings_of_vit_b16(structure, stem, name):
    published = configs.default("dtd", structure)
    found = configs.files(structure, published.replace("vit_b16", stem))
    theirs = flat(configs.merged(configs.files(structure, published)))
    assert theirs["MODEL.BACKBONE.NAME"] == "ViT-B/16"
    assert flat(configs.merged(found)) == theirs | {"MODEL.BACKBONE.NAME": name}
