"""The package craft: runs as objects, training on pictures in memory, and docs/python.md."""

import json
import os
import pickle
import random
import re
import shutil
import warnings
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from odd_pictures import READING, write_odd
from PIL import Image
from tiny_clip import TINY, images, vit_weights
from tiny_run import CLASSES, make_trainer
from torchvision.transforms.functional import to_tensor

from craft import Model, UserError, fit, load_run
from dassl import files
from dassl.config import get_cfg_default
from dassl.data.data_manager import _said
from dassl.data.datasets import Picture
from dassl.engine import build_trainer
from dassl.utils import read_json, set_random_seed, write_json
from tools import layouts, predict, trained
from trainers.backbone import Backbone

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/python.md").read_text()
NAMES = [name.replace("_", " ") for name in CLASSES]
SIZE = TINY["image"]
SMALL = {  # prompts that fit the three layers of the tiny CLIP
    "CoOp": {"TRAINER.COOP.N_CTX": 2, "TRAINER.COOP.CTX_INIT": ""},
    "CraftCoOp": {"TRAINER.COOP.N_CTX": 2, "TRAINER.COOP.CTX_INIT": ""},
    "CraftVPT": {"TRAINER.VPT.PROMPT_DEPTH_VISION": 2, "TRAINER.VPT.N_CTX_VISION": 2},
    "MaPLe": {"TRAINER.MAPLE.PROMPT_DEPTH": 2},
}
TARGET = SMALL["CraftVPT"] | {
    "TRAINER.CRAFT.LAMBDA_MMD": 5.0,
    "TRAINER.CRAFT.MMD.DOMAINS": "unlabelled",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    torch.save(vit_weights(**TINY), folder / "clip.pt")
    return folder


@pytest.fixture(scope="module")
def runs(home):
    """{name: (run folder, its trainer, paths of its test images)}."""
    found = {}
    for name, *options in (
        ("CoOp", "TRAIN.CHECKPOINT_FREQ", 1),
        ("CSC", "TRAINER.COOP.CSC", True),
        ("CoCoOp",),
        ("MaPLe",),
    ):
        kind = "CoOp" if name == "CSC" else name
        trainer = make_trainer(home, kind, "OUTPUT_DIR", str(home / name), *options)
        trainer.train()
        trainer.set_model_mode("eval")
        found[name] = trainer
    return found


@pytest.fixture(scope="module")
def paths(runs):
    return [item.impath for item in runs["CoOp"].dm.dataset.test]


def small(home, trainer="CoOp", **more) -> Model:
    """A model of two classes, learned from eight tensors."""
    given = {"epochs": 2, "verbose": False, "options": SMALL.get(trainer, {})} | more
    pictures = given.pop("images", images(8, SIZE))
    labels = given.pop("labels", [0, 1] * 4)
    names = given.pop("classnames", ["cat", "dog"])
    return fit(pictures, labels, names, trainer, str(home / "clip.pt"), **given)


def rows(predictions, names) -> torch.Tensor:
    """Probabilities (B, C) in the order of the names."""
    return torch.tensor([[dict(one)[name] for name in names] for one in predictions])


def with_reading(run: str, folder: Path, reading: dict) -> Path:
    """A copy of a run's folder, whose run read pictures with these keys of INPUT."""
    shutil.copytree(run, folder)
    results = read_json(f"{folder}/results.json")
    results["config"]["INPUT"] |= {key.partition(".")[2]: value for key, value in reading.items()}
    write_json(results, f"{folder}/results.json")
    return folder


# Runs


@pytest.mark.parametrize("name", ["CoOp", "CSC", "CoCoOp", "MaPLe"])
def test_a_run_classifies_as_its_trainer_does(name, runs, paths):
    trainer = runs[name]
    model = load_run(Path(trainer.cfg.OUTPUT_DIR))
    assert model.classnames == NAMES and model.trainer == trainer.cfg.TRAINER.NAME
    with torch.no_grad():
        batch = torch.stack([trainer.dm.tfm_test(Image.open(path)) for path in paths])
        expected = trainer.model_inference(batch).softmax(1)
        features = trainer.clip.image_features(batch)
    found = model.classify(paths, top=9)
    assert torch.allclose(rows(found, NAMES), expected, atol=1e-6)
    assert [one.image for one in found] == paths and not any(one.error for one in found)
    assert [one.best for one in found] == [NAMES[label] for label in expected.argmax(1)]
    assert all([p for _, p in one] == sorted((p for _, p in one), reverse=True) for one in found)
    assert torch.allclose(model.image_features(paths), features, atol=1e-6)
    assert torch.allclose(model.module(batch).softmax(1), expected, atol=1e-6)


def test_every_way_to_give_a_picture(runs, paths, tmp_path):
    model = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    expected = rows(model.classify(paths, top=9), NAMES)
    opened = [Image.open(path) for path in paths]
    tensors = torch.stack([model.transform(one) for one in opened])
    mixed = [paths[0], Path(paths[1]), opened[2], *tensors[3:]]
    for given in (opened, tensors, tuple(tensors), mixed, iter(paths)):
        assert torch.allclose(rows(model.classify(given, top=9), NAMES), expected, atol=1e-6)
    for one in (paths[3], Path(paths[3]), opened[3], tensors[3]):
        found = model.classify(one, top=2)
        assert len(found.top) == 2 and found.best == NAMES[expected[3].argmax()]
        assert dict(found)[found.best] == pytest.approx(expected[3].max().item(), abs=1e-6)
        assert torch.allclose(model.image_features(one), model.image_features([one]))
    (tmp_path / "a/b").mkdir(parents=True)
    shutil.copy(paths[0], tmp_path / "a/b/1.png")
    shutil.copy(paths[1], tmp_path / "a/0.png")
    found = model.classify(tmp_path / "a", top=9)
    assert [Path(one.image).name for one in found] == ["0.png", "1.png"]
    assert torch.allclose(rows(found, NAMES), expected[[1, 0]], atol=1e-6)
    found = model.classify([tmp_path / "a/0.png", tmp_path / "a/b"], top=9)
    assert torch.allclose(rows(found, NAMES), expected[[1, 0]], atol=1e-6)


def test_pictures_of_other_modes_are_read_as_files_are(runs, home, tmp_path):
    model = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    noise = np.random.RandomState(0).randint(0, 255, (40, 36, 4)).astype(np.uint8)
    for mode in ("RGBA", "L", "P", "I;16"):
        base = Image.fromarray(noise)
        deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
        picture = deep if mode == "I;16" else base.convert(mode)
        picture.save(tmp_path / "x.png")
        before = (picture.mode, picture.tobytes())
        assert model.classify(picture).top == model.classify(tmp_path / "x.png").top, mode
        assert (picture.mode, picture.tobytes()) == before


@pytest.mark.parametrize("reading", [{}, READING], ids=["as stored", "as seen"])
def test_a_path_a_picture_and_its_tensor_are_the_same_to_the_model(runs, tmp_path, reading):
    folder = with_reading(runs["CoOp"].cfg.OUTPUT_DIR, tmp_path / "run", reading)
    model, stored = load_run(folder), load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    expected = predict.predictions(trained.load(str(folder)), odd := write_odd(tmp_path / "odd"))
    differ = set()
    for path, row in expected:
        with Image.open(path) as picture:
            tensor = model.transform(picture)
            for given in (picture, tensor, model.transform(path)):
                assert model.classify(given).top == model.classify(path).top, path
            found = rows([model.classify(path)], NAMES)[0]
            assert torch.allclose(found, row, atol=1e-6), path  # of a batch: rounded otherwise
            assert torch.equal(model.image_features(picture), model.image_features(tensor)), path
        if not torch.equal(stored.transform(path), tensor):
            differ.add(Path(path).name)
    plain = {"grey.png"} if reading else {Path(path).name for path in odd}
    assert differ == {Path(path).name for path in odd} - plain


def test_what_the_transform_refuses(runs, paths, tmp_path):
    model = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    picture = Image.open(paths[0])
    for given, said in (
        ([picture], "not list: call it for each picture"),
        (np.asarray(picture), "not ndarray: call it for each picture (Image.fromarray"),
        (model.transform(picture), "not Tensor"),
        (tmp_path, f"not the folder '{tmp_path}'"),
        (tmp_path / "none.png", "none.png' does not exist"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            model.transform(given)
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(paths[0]).read_bytes()[:200])
    with pytest.raises(UserError, match="image 'picture 0' cannot be read .*: restore it, or leav"):
        model.transform(Image.open(cut))


def test_the_transform_says_what_classify_says_and_holds_no_model(runs, paths, tmp_path, capsys):
    model, path = load_run(runs["CoOp"].cfg.OUTPUT_DIR), tmp_path / "odd/turned.jpg"
    write_odd(tmp_path / "odd")
    _said.clear()
    with Image.open(path) as picture:
        model.transform(picture)
    assert "'picture 0' is a photo that viewers turn (EXIF" in capsys.readouterr().err
    content = pickle.dumps(model.transform)  # for the workers of a DataLoader
    assert len(content) < 50_000
    assert torch.equal(pickle.loads(content)(paths[0]), model.transform(paths[0]))


def test_other_classes(runs, paths):
    model = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    scores = runs["CoOp"].clip.for_classes(["ship", "golden retriever"])
    with torch.no_grad():
        batch = torch.stack([runs["CoOp"].dm.tfm_test(Image.open(path)) for path in paths])
        expected = scores(batch).softmax(1)
    found = model.classify(paths, classes=["ship", "golden retriever"])
    assert torch.allclose(rows(found, ["ship", "golden retriever"]), expected, atol=1e-6)
    other = load_run(runs["CoOp"].cfg.OUTPUT_DIR, classes=["ship", "golden_retriever"])
    assert torch.allclose(rows(other.classify(paths), other.classnames), expected, atol=1e-6)
    third = model.classify(paths, classes=(name for name in ("ship", "golden retriever")))
    assert third == found
    with pytest.raises(UserError, match="classes is a frozenset, whose order says nothing: give a"):
        model.text_features(frozenset({"ship", "red"}))
    # The text of a class does not depend on the others.
    own, texts = model.text_features(), model.text_features(["red", "ship", "tabby cat"])
    assert own.shape == (4, TINY["embed"]) and texts.shape == (3, TINY["embed"])
    assert torch.allclose(own.norm(dim=1), torch.ones(4)) and own.dtype == torch.float32
    assert torch.allclose(texts[[0, 2]], own[[2, 0]], atol=1e-6)
    assert torch.allclose(own, runs["CoOp"].clip.encode_class_texts(), atol=1e-6)
    assert len(model.classify(paths[0]).top) == 4  # the run's classes stay


def test_an_earlier_epoch_is_saved_as_such(runs, paths, home, tmp_path):
    first = load_run(runs["CoOp"].cfg.OUTPUT_DIR, load_epoch=1)
    last = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    assert first.classify(paths) != last.classify(paths)
    assert load_run(first.save(tmp_path / "first")).classify(paths) == first.classify(paths)
    assert load_run(last.save(tmp_path / "last")).classify(paths) == last.classify(paths)
    kept, dropped = (read_json(f"{tmp_path}/{name}/results.json") for name in ("last", "first"))
    assert kept["metrics"] and not dropped["metrics"]  # these were measured with the last epoch
    assert kept["loaded"] is None and dropped["loaded"] == {"model_dir": ".", "epoch": 1}
    moved = shutil.copy(home / "clip.pt", tmp_path / "moved.pt")
    saved = load_run(tmp_path / "last", weights=str(moved)).save(tmp_path / "moved")
    assert read_json(f"{saved}/results.json")["config"]["MODEL"]["BACKBONE"]["NAME"] == str(moved)
    assert load_run(saved).classify(paths) == last.classify(paths)
    shifted = load_run(tmp_path / "last", classes=["ship", "red"]).save(tmp_path / "other")
    assert load_run(shifted).classnames == ["ship", "red"]


def test_devices(runs, paths, home, monkeypatch, capsys):
    model = load_run(runs["MaPLe"].cfg.OUTPUT_DIR, device="cpu")
    before = model.classify(paths)
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    assert repr(model) == f"Model(MaPLe, 4 classes, {home / 'clip.pt'}, cpu)"
    with pytest.raises(UserError, match="device is 'tpu': choose cpu, cuda or cuda:0"):
        model.to("tpu")
    with pytest.raises(UserError, match="device is 'mps': choose"):
        model.to("mps")
    with pytest.raises(UserError, match="device is 'cuda:99', but torch finds no such CUDA dev"):
        load_run(runs["MaPLe"].cfg.OUTPUT_DIR, device="cuda:99")
    # As on a machine with another device: everything that is derived from it is made anew.
    monkeypatch.setattr(Model, "device", property(lambda self: torch.device("meta")))
    model.to("cpu")
    monkeypatch.undo()
    assert model.classify(paths) == before
    model.module.backbone.image.lower_matrices(torch.half)
    monkeypatch.setattr(Model, "device", property(lambda self: torch.device("cuda")))
    with pytest.raises(UserError, match="in fp16, which needs a CUDA device: load the run again"):
        model.to("cpu")


def test_pictures_that_cannot_be_read(runs, paths, tmp_path):
    model = load_run(runs["CoOp"].cfg.OUTPUT_DIR)
    (tmp_path / "b.png").write_bytes(b"no picture")
    cut = tmp_path / "c.png"
    cut.write_bytes(Path(paths[0]).read_bytes()[:200])
    bad = str(tmp_path / "b.png")
    sentence = f"image '{bad}' cannot be read (not an image)"
    with pytest.raises(UserError, match=re.escape(sentence) + ": restore it, .* to 'skip'"):
        model.classify([paths[0], bad])
    found = model.classify([bad, paths[0], Image.open(cut)], unreadable="skip")
    assert (found[0].top, found[0].best, found[0].error) == ([], None, sentence)
    assert found[1].top == model.classify(paths[0]).top
    assert found[2].error.startswith("image 'picture 2' cannot be read (") and not found[2].top
    found = model.classify([paths[0], Image.new("RGB", (5, 0))], unreadable="skip", top=np.int64(1))
    assert len(found[0].top) == 1 and found[1].top == []
    assert found[1].error == "image 'picture 1' cannot be read (its size is 5 x 0 pixels)"
    with pytest.raises(UserError, match=re.escape(sentence) + ": restore it, or leave it out$"):
        model.image_features([paths[0], bad])
    (tmp_path / "folder").mkdir()
    film = tmp_path / "folder/clip.mov"
    film.write_bytes(b"film")
    with pytest.raises(UserError, match="clip.mov' cannot be read: videos .*, or set unreadable"):
        model.classify(tmp_path / "folder")
    (only,) = model.classify(tmp_path / "folder", unreadable="skip")
    assert (only.image, only.best) == (str(film), None) and "videos are not" in only.error


def from_model(home: Path, folder: str, name: str, trains: bool = False):
    """A trainer for the folder `name` with epoch 1 of the run in `folder`, as train.py has it."""
    made = make_trainer(home, "CoOp", "OUTPUT_DIR", str(home / name))
    made.load_model(folder, 1)
    model = {"model_dir": os.path.relpath(folder, home / name), "epoch": 1}
    made.loaded, made.began_from = (None, model) if trains else (model, None)
    made.model_sha256 = files.model_checksum(folder, 1)
    return made


def replace(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=False)
    content["state_dict"]["ctx"] += 1
    torch.save(content, checkpoint)


def test_a_test_s_model_is_the_one_that_it_tested(runs, paths, tmp_path, capsys):
    training = shutil.copytree(runs["CoOp"].cfg.OUTPUT_DIR, tmp_path / "training")
    from_model(tmp_path, str(training), "test").test()
    test, model = tmp_path / "test", load_run(tmp_path / "test")
    assert model.classify(paths) == load_run(training, load_epoch=1).classify(paths)
    kept, other = model.save(tmp_path / "kept"), load_run(test, load_epoch=2)
    later = other.save(tmp_path / "later")
    for folder, same in ((kept, model), (later, other)):  # each is of the model that it holds
        assert load_run(folder).classify(paths) == same.classify(paths)
    replace(training / "prompt_learner/model.pth.tar-1")
    said = f"the checkpoint in '{training}' is not the one that the run in '{test}' tested: restore"
    with pytest.raises(UserError) as caught:
        load_run(test)
    assert str(caught.value) == (
        f"{said} it, test it again with train.py --eval-only, or give model_dir '{training}' for "
        "the model that is there now"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        load_run(test, load_epoch=1)
    assert predict.main(["--model-dir", str(test), paths[0]]) == 2
    assert f"{said} it, test it again" in capsys.readouterr().err
    assert load_run(test, load_epoch=2).classify(paths) == other.classify(paths)  # without numbers
    load_run(training, load_epoch=1)
    (training / "results.json").unlink()
    with pytest.raises(UserError, match="restore it or test it again with train.py --eval-only$"):
        load_run(test)
    for folder in (kept, later):
        (checkpoint,) = Path(folder).rglob("model.pth*")
        replace(checkpoint)
        with pytest.raises(UserError, match="restore it or test it again with train.py --eval-o"):
            load_run(folder)
    record = read_json(f"{test}/results.json")  # as an older version leaves it
    write_json(record | {"model_sha256": None}, f"{test}/results.json")
    load_run(test)


def test_a_training_that_began_from_a_model_is_its_own(runs, paths, tmp_path):
    training = shutil.copytree(runs["CoOp"].cfg.OUTPUT_DIR, tmp_path / "training")
    warm = from_model(tmp_path, str(training), "warm", trains=True)
    warm.train()
    with torch.no_grad():
        batch = torch.stack([warm.dm.tfm_test(Image.open(path)) for path in paths])
        expected = warm.model_inference(batch).softmax(1)
    written = read_json(f"{tmp_path}/warm/results.json")
    assert (written["loaded"], written["began_from"]["model_dir"]) == (None, "../training")
    shutil.rmtree(training)
    older = {**written, "loaded": written["began_from"]}  # as an older version wrote it
    del older["began_from"]
    for stored in (written, older):
        write_json(stored, f"{tmp_path}/warm/results.json")
        model = load_run(tmp_path / "warm")
        assert torch.allclose(rows(model.classify(paths, top=9), NAMES), expected, atol=1e-6)
        folder = model.save(tmp_path / f"saved-{len(stored)}")
        assert load_run(folder).classify(paths) == model.classify(paths)
        saved = read_json(f"{folder}/results.json")
        assert saved.get("began_from") is None and saved["model_sha256"] is None


# Training


@pytest.mark.parametrize("trainer", ["CraftCoOp", "CraftVPT"])
@pytest.mark.parametrize("ready", [False, True], ids=["pictures", "tensors"])
def test_it_learns_what_the_engine_learns_from_files(trainer, ready, home, runs):
    """The reference reads a data set on the disk with the same configuration."""
    data = runs["CoOp"].dm.dataset.train_x
    assert all(Path(item.impath).is_file() for item in data)
    given = [Image.open(item.impath) for item in data]
    options = SMALL[trainer] | {"DATALOADER.TRAIN_X.BATCH_SIZE": 5}
    if ready:
        transform = load_run(runs["CoOp"].cfg.OUTPUT_DIR).transform
        given = torch.stack([transform(image) for image in given])
        options |= {"INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406], "INPUT.INTERPOLATION": "bilinear"}
        options |= {"INPUT.PIXEL_STD": [0.229, 0.224, 0.225]}
    labels = [item.label for item in data]
    model = small(
        home, trainer, images=given, labels=labels, classnames=CLASSES, options=options, seed=3
    )
    cfg = model.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.OUTPUT_DIR = "TinyNoise", str(home / "data"), ""
    cfg.OUTPUT_DIR = str(home / f"reference-{trainer}-{ready}")
    if ready:  # the noise is as high as the CLIP reads, so that its centre is what a crop takes
        cfg.INPUT.TRANSFORMS = ["normalize", "center_crop"]
    cfg.freeze()
    set_random_seed(3)
    reference = build_trainer(cfg)
    if ready:  # without a crop a training picture is squeezed, where a test crops its centre
        reference.train_loader_x.dataset.transform = reference.dm.tfm_test
        reference.transform_of = lambda loader, is_train: reference.dm.tfm_test
    reference.train()
    for name, value in reference.clip.prompts.state_dict().items():
        found = model.module.prompts.state_dict()[name]
        # The reference encodes pictures at every step, and fit those that stay the same once.
        assert torch.equal(value, found) or ready and torch.allclose(value, found, atol=1e-6), name


def test_a_model_reads_pictures_as_its_clip_asked_for_in_training(home, tmp_path, paths):
    clip = tmp_path / "clip"
    clip.mkdir()
    for name, content in layouts.for_hf(Backbone(vit_weights(**TINY)), get_cfg_default()).items():
        (clip / name).write_bytes(content)
    about = read_json(f"{clip}/preprocessor_config.json")
    write_json(about | {"image_mean": [0.1] * 3}, f"{clip}/preprocessor_config.json")
    options = SMALL["CoOp"] | READING
    model = fit(images(8, SIZE), [0, 1] * 4, ["cat", "dog"], "CoOp", str(clip), 1, options=options)
    again = load_run(model.save(tmp_path / "saved"))
    assert list(model.cfg.INPUT.PIXEL_MEAN) == [0.1] * 3
    for path in (*paths[:2], *write_odd(tmp_path / "odd")):
        assert model.classify(path) == again.classify(path)
        assert torch.equal(model.transform(path), again.transform(path))


def test_a_seed_is_a_model_and_the_program_keeps_its_random_states(home):
    strict = torch.are_deterministic_algorithms_enabled()  # another test may have said so
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    one, again, other = (small(home, "CraftCoOp", seed=seed) for seed in (1, 1, 2))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert torch.are_deterministic_algorithms_enabled() == strict
    contexts = [model.module.prompts.ctx for model in (one, again, other)]
    assert torch.equal(contexts[0], contexts[1]) and not torch.equal(contexts[0], contexts[2])
    assert torch.equal(one.text_features(), again.text_features())


def test_labels_in_every_form_are_one_training(home):
    forms = (
        ["cat", "dog"] * 4,
        torch.tensor([0, 1] * 4),
        np.array([0, 1] * 4),
        [*np.arange(2)] * 4,
    )
    found = [small(home, labels=labels).module.prompts.ctx for labels in forms]
    assert all(torch.equal(one, found[0]) for one in found)


def test_options_in_either_spelling_are_one_training(home):
    dotted = SMALL["CoOp"] | {"OPTIM.LR": 0.05, "OPTIM.WARMUP_EPOCH": 0}
    optim = MappingProxyType({"LR": 0.05, "WARMUP_EPOCH": 0})
    nested = {"TRAINER": {"COOP": {"N_CTX": 2, "CTX_INIT": ""}}, "OPTIM": optim, "TEST": {}}
    one, other = (small(home, options=options) for options in (dotted, nested))
    assert one.cfg.OPTIM.LR == 0.05 and one.cfg.dump() == other.cfg.dump().replace(
        other.cfg.OUTPUT_DIR, one.cfg.OUTPUT_DIR
    )
    assert torch.equal(one.module.prompts.ctx, other.module.prompts.ctx)


@pytest.mark.parametrize("trainer", ["MaPLe", "CraftCoCoOp", "TipAdapter"])
def test_what_is_saved_is_the_model(trainer, home, tmp_path, capsys):
    model = small(home, trainer, epochs=1)
    before = model.classify(images(8, SIZE))
    folder = model.save(tmp_path / "new/run")
    assert load_run(folder).classify(images(8, SIZE)) == before
    record = read_json(f"{folder}/results.json")
    assert record["config"]["OUTPUT_DIR"] == folder and record["complete"]
    assert len(json.loads(Path(folder, "pictures.json").read_text())["train_x"]) == 8
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]
    Image.fromarray(np.full((40, 36, 3), 90, np.uint8)).save(tmp_path / "x.png")
    capsys.readouterr()
    assert predict.main(["--model-dir", folder, str(tmp_path / "x.png"), "--top", "1"]) == 0
    best = model.classify(tmp_path / "x.png")
    assert f"{dict(best)[best.best]:7.2%}  {best.best}" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already: choose a new or an empty folder"):
        model.save(folder)


def test_a_folder_is_written_whole_or_not_at_all(home, tmp_path, monkeypatch):
    model = small(home)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run' cannot be written .*: choose another folder"):
        model.save(tmp_path / "file/run")

    def full(*_):
        raise UserError("no space")

    monkeypatch.setattr("craft.model.write_json", full)
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="no space"):
        model.save(tmp_path / "run")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "run"]


def test_data_counts_for_the_hash_of_a_run(home, tmp_path):
    hashes = set()
    for number, more in enumerate(
        ({}, {"images": images(9, SIZE)[1:]}, {"labels": [1, 0] * 4}, {})
    ):
        small(home, epochs=1, **more).save(tmp_path / str(number))
        record = read_json(str(tmp_path / f"{number}/results.json"))
        hashes.add(record["config_hash"])
        assert list(record["data"]) == ["list of pictures"]
    assert len(hashes) == 3


def test_unlabelled_pictures_of_a_target_change_what_is_learned(home):
    far, near = images(6, SIZE), images(6, SIZE) * 0.1
    found = [small(home, "CraftVPT", options=TARGET, unlabelled=one) for one in (far, near)]
    first, second = (model.module.prompts.image_encoder.VPT for model in found)
    assert not torch.allclose(first, second)
    with pytest.raises(UserError, match="has no unlabelled images: name|needs unlabelled images"):
        small(home, "CraftVPT", options=TARGET)


def test_tensors_that_were_never_normalised(home, paths):
    raw = torch.stack([to_tensor(Image.open(path).crop((0, 0, SIZE, SIZE))) for path in paths])
    model, could = small(home), "normalised pixels are -1.79 to 2.15"  # CLIP's
    trains = lambda x, **more: small(home, images=x, epochs=1, **more)  # noqa: E731
    for act in (
        lambda x: model.classify(x),
        lambda x: model.classify([*x, paths[0]]),
        lambda x: model.image_features(x[0]),
        trains,
        lambda x: trains(images(8, SIZE), unlabelled=x, trainer="CraftVPT", options=TARGET),
    ):
        for plain in (raw, raw * 1.15 - 0.08):  # as interpolation leaves them
            with pytest.warns(UserWarning) as caught:
                act(plain)
            (said,) = (str(one.message) for one in caught)
            assert re.match(
                r"the tensors hold numbers of -?0.\d\d to \d.\d\d, as pictures do", said
            )
            assert f"({could}): transform them with model.transform, or give PIL images" in said
            assert caught[0].filename == __file__
        for other in (raw * 255, raw.half() * 255, -raw * 255):
            with pytest.raises(UserError) as refused:
                act(other)
            said = str(refused.value)
            assert re.match(
                r"picture 0 holds numbers of -?[\d.]+ to -?[\d.]+, but normalised", said
            )
            assert said.endswith(
                f"but {could}: transform it with model.transform, or give a PIL image"
            )


def test_tensors_that_may_be_normalised(home, paths):
    model, raw = small(home), torch.rand(8, 3, SIZE, SIZE)
    good = torch.stack([model.transform(path) for path in paths])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (good, good * 1.3, good * 0.1, images(8, SIZE), paths):
            small(home, images=given, epochs=1)
            model.classify(given)
            model.image_features(given)
        for options in (  # such runs normalise otherwise
            {"INPUT.TRANSFORMS": ["normalize", "instance_norm"]},
            {"INPUT.TRANSFORMS": ["random_flip"]},
            {"INPUT.PIXEL_MEAN": [0.0] * 3, "INPUT.PIXEL_STD": [1.0] * 3},
        ):
            other = small(home, images=raw, epochs=1, options=SMALL["CoOp"] | options)
            other.classify(raw)
    with pytest.raises(UserError, match="normalised pixels are 0.00 to 1.00: transform it with"):
        other.classify(raw * 255)


def test_a_model_of_tensors_reads_pictures_as_its_options_say(home, paths):
    options = SMALL["CoOp"] | {"INPUT.TRANSFORMS": ["random_flip", "normalize", "instance_norm"]}
    image = small(home, options=options).transform(paths[0])
    assert torch.allclose(image.mean((1, 2)), torch.zeros(3), atol=1e-5)


def test_the_template_and_the_log(home, capsys):
    model = small(home, "LinearProbe", template="my {}.", epochs=1)
    assert model.module.class_texts() == ["my cat.", "my dog."]
    said = capsys.readouterr().out
    assert "epoch [" not in said and "PREC fp16 needs a CUDA device: using fp32" in said
    assert said.count("is none of OpenAI's CLIPs") == 1
    small(home, "LinearProbe", epochs=1, verbose=True)
    said = capsys.readouterr().out
    assert "epoch [1/1]" in said and "tensorboard" not in said
    small(home, "LinearProbe", epochs=1)
    assert "epoch [" not in capsys.readouterr().out


# Mistakes


def mistakes(home) -> dict:
    """{case: (arguments of `small`, message)}."""
    x = images(8, SIZE)
    nan = x.clone()
    nan[2, 0, 0, 0] = torch.nan
    options = lambda key, value: {"options": {key: value}}  # noqa: E731
    return {
        "count": ({"labels": [0, 1]}, "there are 8 pictures and 2 labels: give one label for each"),
        "range": ({"labels": [0, 2] * 4}, "label 1 is 2: give a whole number from 0 to 1, or a"),
        "name": ({"labels": ["cat", "cow"] * 4}, "label 1 is 'cow': give a whole number from 0"),
        "float": ({"labels": [0.0, 1.0] * 4}, "label 0 is 0.0: give a whole number from 0 to 1"),
        "none": ({"labels": None}, "labels is None: give a list with a label for each picture"),
        "lacking": ({"labels": [0] * 8}, "class 'dog' of classnames has no picture: add one, or"),
        "one": ({"classnames": ["cat"]}, "'cat' is the only class, and would have probability 1"),
        "twice": ({"classnames": ["a", "A"]}, "classnames names 'a' and 'A', which are the same"),
        "text": ({"classnames": "cat"}, "classnames is 'cat': give a list of names"),
        "blank": ({"classnames": ["cat", " "]}, "classnames has the blank name ' ': take it out"),
        "no picture": ({"images": []}, "there is no picture: give a path, a PIL image, a tensor"),
        "size": (
            {"images": x[:, :, 1:]},
            "picture 0 is a tensor (3, 31, 32) of torch.float32, but",
        ),
        "bytes": ({"images": x.byte()}, "picture 0 is a tensor (3, 32, 32) of torch.uint8, but"),
        "nan": ({"images": nan}, "picture 2 holds NaN or infinite numbers: correct or leave out"),
        "array": ({"images": [np.zeros((4, 4))]}, "picture 0 is ndarray: give a path, a PIL image"),
        "number": ({"images": 3}, "a picture is int: give a path, a PIL image, a tensor (3, R, R)"),
        "missing": ({"images": ["none.png"]}, "image 'none.png' does not exist: correct the path"),
        "folder": ({"images": [str(home)]}, "is a folder: give the paths of its pictures, one for"),
        "trainer": ({"trainer": "CoOpp"}, "unknown trainer 'CoOpp': did you mean 'CoOp'?"),
        "frozen": ({"trainer": "ZeroshotCLIP"}, "ZeroshotCLIP learns nothing: choose another"),
        "config": ({"config": "ctx"}, "unknown config of CoOp 'ctx': "),
        "epochs": ({"epochs": 0}, "OPTIM.MAX_EPOCH is 0: "),
        "seed": ({"seed": -1}, "seed is -1: give a whole number from 0"),
        "option": (options("OPTIM.RATE", 1), "unknown config key 'OPTIM.RATE': the closest known"),
        "argument": (options("SEED", 1), "options has SEED: give it as the argument seed"),
        "own": (options("OUTPUT_DIR", "x"), "options has OUTPUT_DIR, which fit sets itself: take"),
        "idle": (options("DATASET.CUT", 3), "options has DATASET.CUT, which changes nothing with"),
        "nested size": (
            options("INPUT", {"SIZE": [64, 64]}),
            "options has INPUT.SIZE, which fit s",
        ),
        "nested set": (
            options("DATASET", {"CUT": 3}),
            "options has DATASET.CUT, which changes noth",
        ),
        "nested trainer": (
            options("TRAINER", {"NAME": "CoCoOp"}),
            "options has TRAINER.NAME: give",
        ),
        "nested fixed": (
            options("TEST", {"NO_TEST": False}),
            "options has TEST.NO_TEST, which fit",
        ),
        "half nested": (
            options("MODEL", {"BACKBONE.NAME": "x"}),
            "MODEL.BACKBONE.NAME: give it as",
        ),
        "nested empty": (
            options("TRAINER", {"NAME": {}}),
            "options has TRAINER.NAME: give it as th",
        ),
        "nested none": (
            options("OPTIM", {"RATE": 1}),
            "unknown config key 'OPTIM.RATE': the close",
        ),
        "empty": (options("OPTIM", {"LR": {}}), "config key 'OPTIM.LR' is one value, not {}"),
        "both": (
            {"options": {"OPTIM": {"LR": 0.1}, "OPTIM.LR": 0.2}},
            "options has OPTIM.LR twice, with dots and in a nested dict: give it once",
        ),
        "no text": (options(3, 4), "options has the key 3, which is no text: write keys as 'OPTIM"),
        "no text below": (
            options("OPTIM", {3: 4}),
            "options has the key 3 under OPTIM, which is n",
        ),
        "pairs": ({"options": [("OPTIM.LR", 1)]}, "options is [('OPTIM.LR', 1)]: give a dict of"),
        "numbered": (
            {"classnames": {"dog": 1, "cat": 0}},
            "classnames is a dict, whose order says",
        ),
        "set": ({"classnames": {"cat", "dog"}}, "classnames is a set, whose order says nothing: "),
        "table": ({"images": {"a.png": 0}}, "the pictures are a dict, whose order says nothing: "),
        "heap": ({"images": {"a.png", "b.png"}}, "the pictures are a set, whose order says nothi"),
        "labelled": (
            {"labels": {0: 0, 1: 1}},
            "labels is a dict, whose order says nothing: give a",
        ),
        "no names": ({"classnames": 3}, "classnames is 3: give a list of names"),
        "template": ({"template": "my"}, "DATASET.TEMPLATE is 'my': "),
        "device": ({"device": "cuda:99"}, "device is 'cuda:99', but torch finds no such CUDA"),
    }


@pytest.mark.parametrize("case", mistakes(Path("home")))
def test_mistakes_of_a_training_are_one_sentence(case, home):
    given, message = mistakes(home)[case]
    with pytest.raises(UserError) as caught:
        small(home, **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes_with_a_run_are_one_sentence(runs, paths, tmp_path):
    saved, empty = runs["CoOp"].cfg.OUTPUT_DIR, "image 'picture 0' cannot be read (its size is "
    coop, csc, cocoop = (load_run(runs[name].cfg.OUTPUT_DIR) for name in ("CoOp", "CSC", "CoCoOp"))
    for call, message in (
        (lambda: coop.classify(paths, top=0), "top is 0: give a whole number from 1"),
        (lambda: coop.classify(paths, top=2.5), "top is 2.5: give a whole number from 1"),
        (lambda: coop.classify(paths, top=None), "top is None: give a whole number from 1"),
        (lambda: coop.classify(paths, top="3"), "top is '3': give a whole number from 1"),
        (lambda: coop.classify(paths, top=True), "top is True: give a whole number from 1"),
        (lambda: load_run(saved, load_epoch="1"), "load_epoch is '1': give a whole number from 1"),
        (lambda: load_run(saved, load_epoch=0), "load_epoch is 0: give a whole number from 1"),
        (lambda: coop.classify([]), "there is no picture: give a path, a PIL image, a tensor"),
        (lambda: coop.image_features(torch.zeros(0, 3, SIZE, SIZE)), "there is no picture: give a"),
        (
            lambda: coop.classify(Image.new("RGB", (0, 5))),
            f"{empty}0 x 5 pixels): restore it, or l",
        ),
        (
            lambda: coop.classify(Image.new("RGBA", (5, 0))),
            f"{empty}5 x 0 pixels): restore it, or ",
        ),
        (
            lambda: coop.transform(Image.new("L", (0, 5))),
            f"{empty}0 x 5 pixels): restore it, or le",
        ),
        (lambda: coop.image_features(Image.new("P", (0, 0))), f"{empty}0 x 0 pixels): restore it,"),
        (lambda: coop.classify(paths, unreadable="no"), "unreadable is 'no': choose raise or skip"),
        (lambda: coop.classify(paths, classes="cat"), "classes is 'cat': give a list of names"),
        (lambda: coop.classify(paths, classes=["cat"]), "'cat' is the only class, and would have"),
        (lambda: coop.classify(paths, classes=[]), "classes holds no class name: give one or more"),
        (lambda: coop.text_features(["a", "a"]), "classes names 'a' twice: give every class once"),
        (lambda: coop.classify(tmp_path), f"folder '{tmp_path}' holds no images: correct the path"),
        (lambda: csc.text_features(NAMES[::-1]), "this model learned 'ctx' for each of its classe"),
        (lambda: cocoop.text_features(), "the class texts of CoCoOp depend on the image: use clas"),
        (lambda: load_run(tmp_path), "give model_dir the folder of a finished run"),
        (lambda: load_run(coop.cfg.DATASET.ROOT, load_epoch=3), "/results.json' cannot be read ("),
        (
            lambda: load_run(runs["CSC"].cfg.OUTPUT_DIR, classes=["a", "b"]),
            "which no other class can use: leave out classes",
        ),
        (
            lambda: load_run(runs["CoOp"].cfg.OUTPUT_DIR, weights="gone.pt"),
            "(here with weights, which takes the CLIP of the run)",
        ),
        (
            lambda: load_run(runs["CoOp"].cfg.OUTPUT_DIR, load_epoch=9),
            "check model_dir, load_epoch",
        ),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_has_one_class(home, paths, tmp_path):
    plain, link, hard = (str(tmp_path / name) for name in ("a.png", "link.png", "hard.png"))
    shutil.copy(paths[0], plain)
    os.symlink(plain, link)
    os.link(plain, hard)
    spelled = os.path.relpath(plain)
    held, x = Image.open(plain), images(2, SIZE)
    there = f" is the same picture as '{plain}', and has two classes, 'cat' and 'dog': give it one"
    other = "'picture 2' is the same picture as 'picture 0', and has two classes, 'cat' and 'dog'"
    for one, again, said in (
        (plain, plain, f"'{plain}' has two classes, 'cat' and 'dog': give it one label"),
        (plain, spelled, f"'{spelled}'{there}"),
        (plain, link, f"'{link}'{there}"),
        (plain, hard, f"'{hard}'{there}"),
        (held, held, other),
        (held, Image.open(plain), other),
        (x[0], x[0], other),
        (x[0].half(), x[0].half(), other),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            small(home, images=[one, paths[1], again], labels=["cat", "cat", "dog"])
    # It may be there twice; a view of its tensor is another picture.
    given = [plain, link, held, held, x[0], x[0], x[0].transpose(1, 2)]
    small(home, images=given, labels=[0] * 6 + [1], epochs=1)


def test_a_command_cannot_train_on_pictures_in_memory(home):
    with pytest.raises(UserError, match="DATASET.NAME is InMemory, whose pictures a program gives"):
        make_trainer(home, "CoOp", "DATASET.NAME", "InMemory")


def test_a_picture_that_cannot_be_decoded_ends_a_training(home, paths, tmp_path):
    (tmp_path / "cut.png").write_bytes(Path(paths[0]).read_bytes()[:200])
    opened = [Image.open(path) for path in (tmp_path / "cut.png", paths[1])]
    with pytest.raises(UserError, match="image 'picture 0' cannot be read .*: restore it or take"):
        small(home, images=opened, labels=[0, 1])
    with pytest.raises(
        UserError, match="picture 1' .*\\(its size is 0 x 5 pixels\\): restore it or"
    ):
        small(home, images=[opened[1], Image.new("RGB", (0, 5))], labels=[0, 1])
    stored = [paths[0], str(tmp_path / "cut.png")]
    with pytest.raises(UserError, match="cut.png' cannot be read .*: restore it or take it out"):
        small(home, images=stored, labels=[0, 1])


def test_the_fingerprint_of_a_picture_tells_pictures_apart():
    grey = Image.new("L", (4, 2))
    palette = grey.convert("P")
    other = palette.copy()
    other.putpalette([9, 9, 9] * 256)
    held = [
        grey,
        grey.resize((2, 4)),
        grey.convert("RGB"),
        palette,
        other,
        Image.new("L", (4, 2), 1),
    ]
    held += [torch.zeros(3, 2, 2), torch.ones(3, 2, 2), torch.zeros(3, 4, 1)]
    prints = [Picture("x", picture=one).fingerprint for one in held]
    assert len(set(prints)) == len(held)
    assert Picture("y", 1, picture=grey.copy()).fingerprint == prints[0]
    assert Picture("x", 1) == Picture("x", 1, picture=grey) and "picture" not in repr(Picture())


# The page


@pytest.mark.filterwarnings("ignore")
def test_the_code_of_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    lines = [line for line in blocks[0].splitlines() if line and "import" not in line]
    assert len(blocks) == 8 and len(lines) <= 10
    variables: dict = {}
    for block in blocks:
        capsys.readouterr()
        exec(compile(block, "docs/python.md", "exec"), variables)
        if "print(model)" in block:
            assert capsys.readouterr().out.splitlines()[-1] == re.search(r"# (Model.*)", block)[1]
    assert variables["model"].classnames == ["circle", "square"]
    found = [one.best for one in variables["model"].classify(variables["pictures"])]
    assert sum(a == b for a, b in zip(found, variables["labels"], strict=True)) == 12
    for path in write_odd(tmp_path / "odd"):
        with Image.open(path) as picture:
            tensor = variables["model"].transform(picture)
            expected = variables["model"].classify(path).top
            assert variables["model"].classify(tensor).top == expected, path
    assert len(variables["others"][0].top) == 3 and variables["stars"].shape[0] == 2
