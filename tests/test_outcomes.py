"""What a test said about each image: written, read again, refused."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import CLASSES, make_trainer, write_table

from dassl import outcomes
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.engine import outcomes as collecting
from dassl.engine import run_hash
from dassl.utils import UserError
from datasets.sets.emoji_groups import EmojiGroups


def record_of(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def read(folder: Path, split: str = "test") -> outcomes.Outcomes:
    return outcomes.read(folder, split, record_of(folder))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(folder of a run on two domains, its trainer)."""
    home = tmp_path_factory.mktemp("run")
    folder = write_table(home)
    trainer = make_trainer(home, "CoOp", "DATASET.NAME", "CSV", "DATASET.ROOT", str(folder))
    trainer.train()
    return home / "output", trainer


def test_predictions_and_accuracy_are_those_of_the_results(ran):
    folder, trainer = ran
    found, metrics = read(folder), record_of(folder)["metrics"]["test"]
    items = trainer.dm.dataset.test
    assert 100.0 * found.correct.sum() / len(found.correct) == metrics["accuracy"]
    assert found.label.tolist() == [item.label for item in items]
    assert found.domain.tolist() == [item.domain for item in items] and len(set(found.domain)) == 2
    root = Path(trainer.cfg.DATASET.ROOT)
    assert [str(root / path) for path in found.paths] == [item.impath for item in items]
    assert (
        found.classnames == tuple(sorted(CLASSES))
        and found.cluster is None
        and found.classes is None
    )
    assert found.ties == {
        "config_hash": run_hash(trainer.cfg),
        "model_sha256": None,
        "loaded": None,
    }


def test_scores_are_those_of_the_model(ran):
    folder, trainer = ran
    found, scores = read(folder), []
    with torch.no_grad(), trainer.class_texts_once():
        for batch in trainer.test_loader:
            scores += trainer.model_inference(batch["img"]).double().tolist()
    for number, row in enumerate(scores):
        total = math.log(sum(math.exp(value) for value in row))
        assert found.log_sum_exp[number] == pytest.approx(total, abs=1e-5)
        nll = total - row[found.label[number]]
        assert found.negative_log_likelihood[number] == pytest.approx(nll, abs=1e-5)
        assert found.confidence[number] == pytest.approx(math.exp(max(row) - total), abs=1e-6)
        kept = found.scores[number].astype(float) + max(row)
        assert kept == pytest.approx(row, abs=2e-3)
        assert found.scores[number].max() == 0


def test_order_of_the_batches_does_not_matter(ran, tmp_path):
    folder, trainer = ran
    shuffled = make_trainer(
        tmp_path,
        "CoOp",
        *("DATASET.NAME", "CSV", "DATASET.ROOT", trainer.cfg.DATASET.ROOT),
        *("MODEL.BACKBONE.NAME", trainer.cfg.MODEL.BACKBONE.NAME),
        *("DATALOADER.TEST.SAMPLER", "RandomSampler", "TEST.EVALUATOR", "GroupClassification"),
    )
    shuffled.train()
    one, other = read(folder), read(tmp_path / "output")
    for name in ("paths", "classnames"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("label", "domain", "predicted", "scores", "own"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    hits = [
        outcomes.read_hits(path, "test", record_of(path)) for path in (folder, tmp_path / "output")
    ]
    assert hits[0].images == hits[1].images and hits[0].correct.tolist() == one.correct.tolist()
    assert hits[0].cluster.tolist() == list(range(len(one.paths)))


def test_no_hash_follows_from_the_key_and_without_it_there_is_no_file(ran, tmp_path):
    trainer = make_trainer(tmp_path, "CoOp", "TEST.SAVE_OUTCOMES", False)
    with_it = make_trainer(tmp_path, "CoOp")
    assert run_hash(trainer.cfg) == run_hash(with_it.cfg)
    trainer.test()
    assert not list((tmp_path / "output").glob("*.npz"))
    with_it.test()
    assert [path.name for path in (tmp_path / "output").glob("*.npz")] == ["outcomes_test.npz"]


def test_validation_has_a_file_of_its_own(tmp_path):
    folder = write_table(tmp_path)
    options = ("DATASET.NAME", "CSV", "DATASET.ROOT", str(folder), "TEST.FINAL_MODEL", "best_val")
    make_trainer(tmp_path, "CoOp", *options).train()
    out = tmp_path / "output"
    accuracy = record_of(out)["metrics"]["val"]["accuracy"]
    assert 100.0 * read(out, "val").correct.mean() == pytest.approx(accuracy)
    assert len(read(out, "val").paths) == 16 and len(read(out).paths) == 24


class Unnumbered(DatasetWrapper):
    """As forks have it that know no index."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        del item["index"]
        return item


def test_a_loader_that_does_not_number_images_is_told(tmp_path, caplog):
    trainer = make_trainer(tmp_path, "CoOp")
    own = trainer.test_loader.dataset
    wrapped = Unnumbered(trainer.cfg, own.data_source, own.transform)
    trainer.test_loader = torch.utils.data.DataLoader(wrapped, 3)
    trainer.test()
    assert "CoOp does not tell which image a score is of: no outcomes of single" in caplog.text
    assert record_of(tmp_path / "output")["metrics"]["test"]["total"] == 8
    assert not list((tmp_path / "output").glob("*.npz"))


# Many classes


def collected(monkeypatch, scores, labels, kept=None) -> dict[str, np.ndarray]:
    if kept:
        monkeypatch.setattr(outcomes, "ALL_CLASSES", scores.shape[1] - 1)
        monkeypatch.setattr(outcomes, "KEPT", kept)
    return {name: one.numpy() for name, one in collecting._reduced(scores, labels).items()}


def test_of_many_classes_the_highest_are_kept_and_nothing_else_is_lost(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    scores = 20 * torch.rand(50, 12, generator=generator)
    labels = torch.randint(12, (50,), generator=generator)
    found = collected(monkeypatch, scores, labels, kept=3)
    assert found["scores"].shape == found["classes"].shape == (50, 3)
    for number, row in enumerate(scores.tolist()):
        order = sorted(range(12), key=lambda place: -row[place])  # noqa: B023
        assert found["classes"][number].tolist() == order[:3]
        assert found["predicted"][number] == order[0]
        for place, value in zip(order, found["scores"][number], strict=False):
            assert value == pytest.approx(row[place] - row[order[0]], abs=0.01)
        assert found["own"][number] == pytest.approx(row[labels[number]])
        total = math.log(sum(map(math.exp, row)))
        assert found["log_sum_exp"][number] == pytest.approx(total, abs=1e-5)


def test_classes_that_half_precision_cannot_tell_apart_keep_the_prediction(monkeypatch):
    scores = torch.tensor([[30.0, 30.0 + 1e-5, 0.0], [-1e6, 0.0, 1.0]])
    found = collected(monkeypatch, scores, torch.tensor([1, 5]))
    assert found["predicted"].tolist() == [1, 2]
    assert found["scores"][0, 0] == pytest.approx(0, abs=1e-4) and found["scores"][0, 1] == 0
    assert np.isfinite(found["scores"]).all()  # beyond the least half number
    assert found["own"].tolist() == [pytest.approx(30.00001), -math.inf]  # no score for label 5


def test_pictures_of_one_emoji_are_one_cluster():
    items = [
        Datum(f"/d/test/animal_kitchen/{name}.png") for name in ("1F401-0", "1F401-1", "1F34E-0")
    ]
    names = EmojiGroups.clusters(EmojiGroups.__new__(EmojiGroups), items)
    assert names == ["1F401", "1F401", "1F34E"]
    assert outcomes.numbered(names).tolist() == [0, 0, 1]
    assert outcomes.numbered(["b", "a"]) is None


# The file


EXAMPLE = outcomes.Outcomes(
    split="test",
    classnames=("cat", "dog"),
    ties={"config_hash": "abc-1", "model_sha256": "f", "loaded": {"model_dir": "../m", "epoch": 2}},
    paths=("a/1.png", "a/\udce9.png", "b/3\n.png"),
    label=np.array([0, 1, 1], np.int32),
    domain=np.array([0, 0, 1], np.int32),
    predicted=np.array([0, 0, 1], np.int32),
    highest=np.array([1.0, 2.0, 3.0], np.float32),
    log_sum_exp=np.array([1.5, 2.5, 3.5], np.float32),
    own=np.array([1.0, 1.5, 3.0], np.float32),
    scores=np.array([[0, -1], [0, -0.5], [-2, 0]], np.float16),
    cluster=np.array([0, 0, 1], np.int32),
)
RECORD = {**EXAMPLE.ties, "metrics": {"test": {"total": 3, "correct": 2}}}


def written(folder: Path, content: outcomes.Outcomes = EXAMPLE) -> Path:
    path = outcomes.place(folder, "test")
    with open(path, "wb") as file:
        outcomes.write(file, content)
    return path


def test_a_file_holds_what_it_was_given_and_always_the_same_bytes(tmp_path):
    path = written(tmp_path)
    found = outcomes.read(tmp_path, "test", RECORD)
    for name, value in vars(EXAMPLE).items():
        stored = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert stored.dtype == value.dtype and stored.tolist() == value.tolist()
        else:
            assert stored == value
    assert outcomes.read_hits(tmp_path, "test", RECORD).cluster.tolist() == [0, 0, 1]
    again = io.BytesIO()
    outcomes.write(again, found)
    assert again.getvalue() == path.read_bytes()


def test_images_are_others_with_another_path_label_or_cluster(tmp_path):
    def images(**changes) -> str:
        written(tmp_path, replace(EXAMPLE, **changes))
        return outcomes.read_hits(tmp_path, "test", {**RECORD, "metrics": {}}).images

    changes = [
        {},
        {"paths": ("a/1.png", "a/2.png", "b/3.png")},
        {"label": np.array([0, 0, 1], np.int32)},
        {"cluster": None},
    ]
    assert len({images(**change) for change in changes}) == 4
    assert images(predicted=np.array([1, 1, 1], np.int32)) == images()


def test_few_images_take_tens_of_kilobytes(tmp_path):
    random, count = np.random.default_rng(0), 400
    scores = -random.exponential(3, (count, 10)).astype(np.float16)
    one = random.normal(size=count).astype(np.float32)
    numbers = random.integers(0, 10, count).astype(np.int32)
    paths = tuple(
        f"suite_emoji/images/openmoji/{random.integers(1 << 20):05X}.png" for _ in range(count)
    )
    arrays = {"label": numbers, "domain": numbers, "predicted": numbers, "scores": scores}
    arrays |= {"highest": one, "log_sum_exp": one, "own": one, "cluster": None}
    content = replace(EXAMPLE, paths=paths, **arrays)
    assert written(tmp_path, content).stat().st_size < 30_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config_hash": "abd"}, "config_hash is 'abc-1' there and 'abd' here"),
        ({"config_hash": "abc-2"}, "config_hash is 'abc-1' there and 'abc-2' here"),
        ({"config_hash": None}, "config_hash is 'abc-1' there and None here"),
        ({"model_sha256": "e"}, "model_sha256 is 'f' there and 'e' here"),
        ({"loaded": None}, "loaded is {'model_dir': '../m', 'epoch': 2} there and None here"),
        ({"metrics": {"test": {"total": 3, "correct": 1}}}, "correct is 2 there and 1 here"),
        ({"metrics": {"test": {"total": 4, "correct": 2}}}, "total is 3 there and 4 here"),
    ],
)
def test_a_file_of_another_run_is_refused(tmp_path, change, said):
    path = written(tmp_path)
    sentence = f"'{path}' is of another run than the results.json beside it ({said}): run the test"
    for reader in (outcomes.read, outcomes.read_hits):
        with pytest.raises(UserError) as error:
            reader(tmp_path, "test", RECORD | change)
        assert str(error.value) == f"{sentence} again"


def test_a_hash_of_older_results_without_data_fits(tmp_path):
    written(tmp_path)
    assert outcomes.read(tmp_path, "test", RECORD | {"config_hash": "abc"}).split == "test"


def test_files_that_are_missing_of_another_split_or_format_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="does not exist: run the test again with TEST.SAVE_OUT"):
        outcomes.read(tmp_path, "test", RECORD)
    written(tmp_path).rename(outcomes.place(tmp_path, "val"))
    with pytest.raises(UserError, match=r"split is 'test' there and 'val' here"):
        outcomes.read(tmp_path, "val", RECORD)
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "FORMAT", 2)
        path = written(tmp_path)
    with pytest.raises(UserError) as error:
        outcomes.read_hits(tmp_path, "test", RECORD)
    assert str(error.value) == (
        f"'{path}' has format 2 and this version reads format 1: use the version that wrote the "
        "file, or run the test again"
    )


def test_a_file_that_was_cut_off_or_changed_is_refused(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    assert len(whole) > 2000
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is damaged"):
            outcomes.read(tmp_path, "test", RECORD)
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            found = outcomes.read(tmp_path, "test", RECORD)
        except UserError:
            refused += 1
        else:  # a byte that nobody reads, such as a time
            assert found.label.tolist() == [0, 1, 1] and found.paths == EXAMPLE.paths
    assert refused > len(whole) / 7 / 2


@pytest.mark.parametrize("content", ["pickle", "array", "lacking", "uneven", "text"])
def test_what_is_no_file_of_outcomes_is_refused(tmp_path, content):
    path = written(tmp_path)
    with np.load(path) as stored:
        arrays = dict(stored)
    if content == "pickle":
        arrays["label"] = np.array([{}, {}, {}], dtype=object)
    elif content == "lacking":
        del arrays["own"]
    elif content == "uneven":
        arrays["own"] = arrays["own"][:2]
    if content == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif content == "text":
        path.write_text("{}")
    else:
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    with pytest.raises(UserError, match=rf"'{path}' is damaged \(.+\): run the test again"):
        outcomes.read(tmp_path, "test", RECORD)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "CoOp")
    trainer.test()
    before = (tmp_path / "output/outcomes_test.npz").read_bytes()

    def full(file, content):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outcomes, "write", full)
    with pytest.raises(UserError, match=r"outcomes_test.npz' \(No space left on device\): free"):
        trainer.test()
    assert (tmp_path / "output/outcomes_test.npz").read_bytes() == before
    assert not [path for path in (tmp_path / "output").iterdir() if path.name.startswith(".outc")]
