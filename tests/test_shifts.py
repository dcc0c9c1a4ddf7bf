"""Data sets of several domains, on miniatures in Dassl's layouts: who is trained on, who tested."""

import json
from pathlib import Path

import pytest
from tiny_run import make_cfg, make_trainer

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError
from datasets import check, prepare
from datasets.shifts import ShiftDataset
from tools import configs, miniatures

NAMES = [
    name for name, kind in prepare.prepared_classes().items() if issubclass(kind, ShiftDataset)
]
# Of the miniatures' images of a class: trained on, validated, tested, unlabelled in one domain.
COUNTS = {
    "PACS": (3, 1, 4, 0),
    "VLCS": (3, 1, 2, 0),
    "OfficeHomeDG": (2, 1, 3, 0),
    "TerraIncognita": (2, 1, 3, 0),
    "Office31": (3, 0, 3, 3),
    "OfficeHome": (3, 0, 3, 3),
    "VisDA17": (3, 0, 3, 3),
    "DomainNet": (1, 1, 1, 1),
    "DomainNetDG": (1, 1, 1, 0),
    "miniDomainNet": (1, 0, 1, 1),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shifts")
    for name in NAMES:
        miniatures.make(prepare.find(name), folder / "data")
    return folder


def load(root: Path, name: str, sources=None, targets=None, *options) -> ShiftDataset:
    kind = DATASET_REGISTRY.get(name)
    sources = kind.domain_names[:-1] if sources is None else sources
    targets = kind.domain_names[-1:] if targets is None else targets
    chosen = ("DATASET.SOURCE_DOMAINS", sources, "DATASET.TARGET_DOMAINS", targets)
    return kind(make_cfg(root, "CoOp", "DATASET.NAME", name, *chosen, *options))


def test_all_of_dassls_names_are_there():
    assert set(NAMES) == set(COUNTS)
    for name in NAMES:
        kind = DATASET_REGISTRY.get(name)
        assert configs.registered(kind.config_name()) == name


@pytest.mark.parametrize("name", COUNTS)
def test_parts_domains_and_classes(root, name):
    data, kind = load(root, name), DATASET_REGISTRY.get(name)
    train, val, test, unlabelled = COUNTS[name]
    sources = len(kind.domain_names) - 1
    broken = name == "PACS"  # a line of the list that Dassl leaves out
    assert len(data.train_x) == train * kind.classes * sources
    assert len(data.val or ()) == val * kind.classes * sources
    assert len(data.test) == test * kind.classes and data.num_classes == kind.classes
    assert len(data.train_u or ()) == unlabelled * kind.classes
    assert {item.domain for item in data.train_x} == set(range(sources))
    assert {item.domain for item in data.test} == {sources}
    assert all(item.label == -1 and not item.classname for item in data.train_u or ())
    assert all(Path(item.impath).is_file() for item in (*data.train_x, *data.test))
    assert not any("_" in name for name in data.classnames) or broken or name == "DomainNet"
    assert len(set(data.classnames)) == kind.classes


@pytest.mark.parametrize("name", ["PACS", "OfficeHome", "miniDomainNet"])
def test_any_domain_can_be_left_out(root, name):
    kind = DATASET_REGISTRY.get(name)
    for number, target in enumerate(kind.domain_names):
        others = [domain for domain in kind.domain_names if domain != target]
        data = load(root, name, others, [target])
        assert {item.domain for item in data.test} == {number}
        assert {item.domain for item in data.train_x} == set(range(len(others) + 1)) - {number}
        assert all(f"/{target}/" in item.impath for item in data.test)
    one = load(root, name, [kind.domain_names[0]], [kind.domain_names[1]])
    assert {item.domain for item in one.train_x} == {0}


def test_labels_are_those_of_the_same_classes_in_every_domain(root):
    for name in ("PACS", "OfficeHomeDG", "DomainNetDG", "VisDA17"):
        data = load(root, name)
        called = {item.label: item.classname for item in data.train_x}
        assert {item.label: item.classname for item in data.test} == called


@pytest.mark.parametrize("name", NAMES)
def test_the_check_is_content_with_a_miniature(root, name):
    report = check.examine(prepare.find(name), str(root / "data"), progress=False)
    assert report.problems == [] and report.classes == f"{prepare.find(name).classes:,}"


def test_shots_are_drawn_of_the_sources(root):
    data = load(root, "OfficeHome", None, None, "DATASET.NUM_SHOTS", 1)
    assert len(data.train_x) == 65 and len(data.train_u) == 65


@pytest.mark.parametrize(
    ("sources", "targets", "reason"),
    [
        (
            ["art", "photo"],
            None,
            "SOURCE_DOMAINS names 'art', a domain that PACS lacks: choose of",
        ),
        (None, ["pencil"], "TARGET_DOMAINS names 'pencil', a domain that PACS lacks"),
        ([], None, "SOURCE_DOMAINS is empty: PACS has the domains art_painting, cartoon, photo, s"),
        (None, [], "TARGET_DOMAINS is empty"),
        (["photo", "sketch"], ["sketch"], "'sketch' is in DATASET.SOURCE_DOMAINS and in TARGET_D"),
    ],
)
def test_domains_that_cannot_be_meant(root, sources, targets, reason):
    with pytest.raises(UserError, match=reason):
        load(root, "PACS", sources, targets)


def test_a_broken_list_and_a_missing_class_are_named(tmp_path):
    home = miniatures.make(prepare.find("PACS"), tmp_path / "data")
    path = home / "splits/photo_train_kfold.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "photo.jpg", *lines[2:]]) + "\n")
    with pytest.raises(UserError, match="photo_train_kfold.txt' line 2 is 'photo.jpg': a line is"):
        load(tmp_path, "PACS")
    path.unlink()
    with pytest.raises(UserError, match="photo_train_kfold.txt"):
        load(tmp_path, "PACS")
    home = miniatures.make(prepare.find("Office31"), tmp_path / "data")
    folder = sorted((home / "dslr").iterdir())[0]
    folder.rename(home / "elsewhere")
    with pytest.raises(UserError, match="dslr' has 30 folders for 31 classes: the data set is"):
        load(tmp_path, "Office31")


def test_what_only_a_person_may_fetch_is_told(tmp_path):
    for name in ("OfficeHome", "Office31", "TerraIncognita", "DomainNet"):
        with pytest.raises(UserError, match="fetch"):
            prepare.find(name).prepare(str(tmp_path), progress=False)


@pytest.mark.slow
def test_mmd_takes_the_targets_images(root, tmp_path):
    """CRAFT with MMD adapts from one domain to another, and a plain structure ignores them."""
    options = (
        *("DATASET.NAME", "VisDA17", "DATASET.ROOT", str(root / "data")),
        *("DATASET.SOURCE_DOMAINS", ("synthetic",), "DATASET.TARGET_DOMAINS", ("real",)),
        *("OPTIM.MAX_EPOCH", 1, "DATALOADER.TRAIN_X.BATCH_SIZE", 12),
    )
    mmd = ("TRAINER.CRAFT.LAMBDA_MMD", 1.0, "TRAINER.CRAFT.MMD.DOMAINS", "unlabelled")
    trainer = make_trainer(tmp_path, "CraftMaPLe", *options, *mmd)
    trainer.train()
    assert "craft_mmd" in trainer.terms
    results = json.loads((tmp_path / "output/results.json").read_text())
    assert results["metrics"]["test"]["total"] == 36
