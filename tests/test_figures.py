"""The paper's pictures on tiny runs: the numbers behind them, the files, and what is said of bad
input.
"""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_domains import MMD  # registers TwoDomains
from test_results import write
from tiny_run import make_trainer

from dassl.utils import UserError, load_checkpoint, read_image
from tools import figures


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Finished runs of four trainers on the same images."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name, options in (
        ("CoOp", ()),
        ("CraftCoCoOp", ()),
        ("MaPLe", ()),
        ("CraftMaPLe", (*MMD, "unlabelled")),
    ):
        found[name] = folder / name
        make_trainer(
            folder,
            name,
            "DATASET.NAME",
            "TwoDomains",
            "OUTPUT_DIR",
            str(found[name]),
            "OPTIM.MAX_EPOCH",
            1,
            *options,
        ).train()
    return found


def draw(kind, tmp_path, *arguments, code=0):
    assert figures.main([kind, *map(str, arguments), "--out", str(tmp_path / kind)]) == code
    if code == 0:
        assert (tmp_path / f"{kind}.pdf").read_bytes().startswith(b"%PDF")
        picture = np.asarray(Image.open(tmp_path / f"{kind}.png").convert("L"))
        assert min(picture.shape) > 250 and picture.std() > 10  # something is drawn


def test_tsne_and_predictions(runs, tmp_path, capsys):
    draw("tsne", tmp_path, runs["MaPLe"], runs["CraftMaPLe"], "--classes", 3)
    assert "the image features of all runs are the same" not in capsys.readouterr().err
    draw("tsne", tmp_path, runs["CoOp"], runs["CoOp"], "--names", "tabby cat", "red")
    assert "the image features of all runs are the same" in capsys.readouterr().err
    draw("predictions", tmp_path, runs["CoOp"], runs["CraftCoCoOp"], "--images", 3)
    assert list(runs["CoOp"].glob("features-*")) == [
        runs["CoOp"] / "features-TwoDomains.safetensors"
    ]


def test_pictures_are_shown_as_the_run_reads_them(runs, tmp_path, monkeypatch):
    run, shown = tmp_path / "run", []
    shutil.copytree(runs["CoOp"], run)
    results = json.loads((run / "results.json").read_text())
    results["config"]["INPUT"]["UPRIGHT"] = True
    (run / "results.json").write_text(json.dumps(results))
    paths = [Path(path) for path in figures.features(run, "").paths]
    content, picture, exif = paths[0].read_bytes(), Image.open(paths[0]), Image.Exif()
    exif[274] = 6
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda _, image: shown.append(image))
    try:
        picture.save(paths[0], exif=exif)
        draw("predictions", tmp_path, run, run, "--images", len(paths))
    finally:
        paths[0].write_bytes(content)
    turned = np.asarray(picture.transpose(Image.Transpose.ROTATE_270))
    assert len(shown) == len(paths) and any(np.array_equal(one, turned) for one in shown)


def test_features_are_the_models_own_and_are_kept(runs, monkeypatch):
    for name in ("CoOp", "CraftCoCoOp", "MaPLe"):
        found = figures.features(runs[name], "")
        trainer = figures.trained.load(str(runs[name]))
        images = torch.stack([trainer.transform(read_image(path)) for path in found.paths])
        assert torch.allclose(found.logits(), trainer.clip.logits(images), atol=1e-3)
    monkeypatch.setattr(figures.trained, "load", lambda *_: pytest.fail("computed again"))
    figures.features(runs["CoOp"], "")
    checkpoint = runs["CoOp"] / "prompt_learner/model.pth.tar-1"
    later, good = time.time() + 5, checkpoint.read_bytes()
    os.utime(runs["CoOp"] / "results.json", (later, later))  # as a copy of the folder may have it
    figures.features(runs["CoOp"], "")
    state = load_checkpoint(str(checkpoint))
    state["state_dict"]["ctx"] += 1  # as if it had been trained again
    torch.save(state, checkpoint)
    os.utime(checkpoint, (1, 1))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        figures.features(runs["CoOp"], "")
    checkpoint.write_bytes(good)
    picture = figures.data_of(runs["CoOp"], "").test[0].impath
    with open(picture, "ab") as file:
        file.write(b" ")
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        figures.features(runs["CoOp"], "")


def test_features_of_other_classes_are_computed_again(runs, monkeypatch):
    figures.features(runs["MaPLe"], "")
    data_of = figures.data_of

    def renamed(*args):
        data = data_of(*args)
        data._classnames = ["another", *data.classnames[1:]]
        return data

    monkeypatch.setattr(figures, "data_of", renamed)
    monkeypatch.setattr(figures.trained, "load", lambda *_: pytest.fail("computed again"))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        figures.features(runs["MaPLe"], "")


def test_features_that_are_no_numbers_are_refused_and_not_kept(runs, monkeypatch):
    (runs["MaPLe"] / "features-TwoDomains.safetensors").unlink(missing_ok=True)
    trainer = figures.trained.load(str(runs["MaPLe"]))
    monkeypatch.setattr(trainer.clip, "encode_class_texts", lambda: torch.full((4, 32), torch.nan))
    monkeypatch.setattr(figures.trained, "load", lambda *_: trainer)
    with pytest.raises(UserError, match="scores are NaN or infinite"):
        figures.features(runs["MaPLe"], "")
    assert not list(runs["MaPLe"].glob("features-*"))


def test_channel_importance_against_a_loop():
    torch.manual_seed(0)
    image, labels = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    for text in (torch.randn(2, 3), torch.randn(5, 2, 3)):
        found = figures.RunFeatures(image, text, torch.tensor([7.0]), labels, [], [], "")
        for d in range(3):
            slow = (
                sum(
                    abs(7 * image[n, d] * (text[y, d] if text.dim() == 2 else text[n, y, d]))
                    for n, y in enumerate(labels)
                )
                / 5
            )
            assert found.channel_importance()[d] == pytest.approx(slow.item(), rel=1e-5)


def test_classes_that_are_confused_most_are_chosen():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    wrong = {2: 3, 4: 3, 5: 3, 6: 2}  # 2 and 3 are confused, once 1 with 3
    logits = torch.eye(4)[[wrong.get(i, int(label)) for i, label in enumerate(labels)]]
    one = torch.tensor([1.0])
    found = figures.RunFeatures(logits, torch.eye(4), one, labels, [], list("abcd"), "")
    assert figures.choose_classes(found, 2) == [2, 3] and figures.choose_classes(found, 3) == [
        1,
        2,
        3,
    ]


def test_channels_and_ablation(runs, tmp_path, capsys):
    draw("channels", tmp_path, runs["MaPLe"], runs["CraftMaPLe"], "--target", "TwoDomains")
    for variant, trainer in (("baseline", "CoOp"), ("static", "CraftCoOp"), ("both", "CraftCoOp")):
        for part in ("train_base", "test_new"):
            for seed in (1, 2):
                write(
                    tmp_path / f"ablation/{variant}/base2new",
                    part,
                    "emoji",
                    trainer,
                    seed,
                    70.0 + seed,
                )
    draw("ablation", tmp_path, tmp_path)


WEIGHTS = ("TRAINER.CRAFT.LAMBDA_STATIC", "TRAINER.CRAFT.LAMBDA_STOCHASTIC")


def ablated(home: Path, study: str, base: float, *craft: float, shots: int = 8) -> None:
    """Three seeds of a variant of CoOp; craft: both weights and the anchors, none without CRAFT."""
    keys = ("LAMBDA_STATIC", "LAMBDA_STOCHASTIC", "ANCHORS_PER_CLASS")
    node = {"NAME": "CraftCoOp" if craft else "CoOp"}
    node |= {"CRAFT": dict(zip(keys, craft, strict=True))} if craft else {}
    for part, more in (("train_base", 0.0), ("test_new", -20.0)):
        for seed in (1, 2, 3):
            cell = f"ablation/{study}/base2new/{part}/things/shots_{shots}/{node['NAME']}/suite"
            folder = home / cell / f"seed{seed}"
            folder.mkdir(parents=True)
            record = {"complete": True, "metrics": {"test": {"accuracy": base + more + seed}}}
            record |= {"config": {"TRAINER": node}, "trainer": node["NAME"]}
            (folder / "results.json").write_text(json.dumps(record))


def test_curves_over_the_value_of_options(tmp_path, capsys, monkeypatch):
    """Only runs that differ in these options alone, and without CRAFT all weights are 0."""
    for study, base, *craft in (
        ("baseline", 60.0),
        ("static", 71.0, 0.5, 0.0, 1),
        ("both", 62.0, 0.5, 0.5, 1),
        ("weight_2", 66.0, 2.0, 2.0, 1),
        ("anchors_4", 68.0, 0.5, 0.5, 4),
    ):
        ablated(tmp_path, study, base, *craft)
    drawn = {}
    plot = figures.plots.over_values
    monkeypatch.setattr(
        figures.plots,
        "over_values",
        lambda panels, keys, ticks, path: (
            drawn.update({panel.title: panel.lines for panel in panels})
            or plot(panels, keys, ticks, path)
        ),
    )
    draw("settings", tmp_path, tmp_path, "--keys", *WEIGHTS)
    (line,) = drawn["base"]
    margin = 4.302653 / 3**0.5  # Student's t for two degrees of freedom; the deviation is 1
    assert [point[:2] for point in line.points] == [(0.0, 62.0), (0.5, 64.0), (2.0, 68.0)]
    assert [point[2] for point in line.points] == pytest.approx([margin] * 3, rel=1e-5)
    assert [point[1] for point in drawn["new"][0].points] == [42.0, 44.0, 48.0]
    draw("settings", tmp_path, tmp_path, "--keys", "TRAINER.CRAFT.ANCHORS_PER_CLASS")
    assert [point[:2] for point in drawn["base"][0].points] == [(1.0, 64.0), (4.0, 70.0)]

    draw("settings", tmp_path, tmp_path, "--keys", WEIGHTS[0])  # the other weight is 0.5 or 2
    assert [point[0] for point in drawn["base"][0].points] == [0.0, 0.5]  # with static, without
    shutil.rmtree(tmp_path / "ablation/weight_2/base2new/test_new")
    ablated(tmp_path, "weight_4", 90.0, 4.0, 4.0, 1, shots=4)
    draw("settings", tmp_path, tmp_path, "--keys", *WEIGHTS)
    assert [point[0] for point in drawn["base"][0].points] == [0.0, 0.5, 2.0]
    assert [point[0] for point in drawn["new"][0].points] == [0.0, 0.5]

    def error(*arguments):
        draw("settings", tmp_path, tmp_path, *arguments, code=2)
        return capsys.readouterr().err.splitlines()[-1]

    assert "name it with --keys" in error()
    said = error("--keys", "TRAINER.CRAFT.ANCHORS_PER_CLAS")
    assert (
        "an option of none of these runs: did you mean 'TRAINER.CRAFT.ANCHORS_PER_CLASS'?" in said
    )
    assert "no runs differ in TRAINER.NAME alone" in error("--keys", "TRAINER.NAME")


def test_bad_input_is_one_sentence(runs, tmp_path, capsys):
    def error(kind, *arguments):
        draw(kind, tmp_path, *arguments, code=2)
        return capsys.readouterr().err.splitlines()[-1]

    assert "no results.json of ablation runs below" in error("ablation", tmp_path)
    assert "give its registered name with --target" in error("channels", runs["CoOp"])
    assert "results.json' cannot be read" in error("tsne", tmp_path / "none")
    assert "unknown dataset 'Nothing'" in error("channels", runs["CoOp"], "--target", "Nothing")
    shutil.copytree(runs["MaPLe"], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/MultiModalPromptLearner")
    for stored in (tmp_path / "copy").glob("features*"):  # an earlier test may have left some
        stored.unlink()
    assert "model.pth.tar-1' does not exist" in error("tsne", tmp_path / "copy")
    assert "test images, too few for t-SNE" in error("tsne", runs["CoOp"], "--names", "red")
    assert "unknown class 'blue'" in error("tsne", runs["CoOp"], "--names", "blue")
    assert error("tsne", runs["CoOp"], "--names", *["red"] * 9) == (
        "error: 9 classes are too many to tell apart by colour: choose 8 or fewer with --classes "
        "or --names"
    )


@pytest.mark.parametrize("kind", ["tsne", "channels", "predictions"])
def test_a_picture_replaces_none_that_it_is_made_from(kind, runs, tmp_path, capsys, monkeypatch):
    run = runs["CoOp"]
    image = Path(figures.data_of(run, "").test[0].impath)
    (tmp_path / "a.png").symlink_to(image)
    monkeypatch.delattr(figures, "_origin")  # nothing is computed before
    assert figures.main([kind, str(run), "--target", "TwoDomains", "--out", f"{tmp_path}/a"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"error: --out is '{tmp_path / 'a.png'}', which is to be read: give another name"
    assert (tmp_path / "a.png").is_symlink() and not (tmp_path / "a.pdf").exists()


def test_numbers_that_draw_nothing_are_refused(capsys):
    for kind, name in (("predictions", "images"), ("tsne", "classes")):
        assert figures.main([kind, "run", f"--{name}", "0"]) == 2
        assert capsys.readouterr().err == f"error: --{name} is 0: set it to 1 or more\n"
