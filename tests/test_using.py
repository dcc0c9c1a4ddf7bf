"""tools.predict, tools.export and tools.interpret on finished tiny runs whose data set is gone."""

import json
import re
import shutil
from pathlib import Path

import forked
import pytest
import torch
from odd_pictures import DEEP, READING, write_odd
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_run import CLASSES, PIXELS, STRUCTURES, make_trainer

from dassl.config import get_cfg_default
from dassl.utils import read_json, write_json
from tools import export, interpret, predict, trained
from trainers import backbone
from trainers.backbone import SimpleTokenizer
from trainers.model import PromptedCLIP
from trainers.prompts import Context

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/using.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
NAMES = [name.replace("_", " ") for name in CLASSES]
RUNS = {
    **{name: (name,) for name in [*STRUCTURES, "CraftMaPLe", "ZeroshotCLIP", "ZeroshotCLIP2"]},
    "CSC": ("CoOp", "TRAINER.COOP.CSC", True),
    "CraftCoOp": (
        "CraftCoOp",
        "TEST.PER_CLASS_RESULT",
        True,
        "TRAINER.CRAFT.ANCHORS_PER_CLASS",
        2,
    ),
}
VISUAL = ("VPT", "IVLP", "MaPLe", "PromptSRC", "CraftMaPLe")
WITH_CONTEXT = ("CoOp", "CSC", "CoCoOp", "IVLP", "MaPLe", "PromptSRC", "CraftCoOp")


def logits(trainer) -> torch.Tensor:
    trainer.set_model_mode("eval")
    return torch.cat([trainer.model_inference(batch["img"]) for batch in trainer.test_loader])


class Finished:
    """A run's folder, the trainer that wrote it, and its logits (images, C) on its test images, in
    the order of their names.
    """

    def __init__(self, trainer):
        self.folder, self.trainer = trainer.cfg.OUTPUT_DIR, trainer
        found, paths = logits(trainer), [item.impath for item in trainer.dm.dataset.test]
        self.logits = found[sorted(range(len(paths)), key=paths.__getitem__)]
        results = read_json(f"{self.folder}/results.json")
        results.setdefault("classnames", list(trainer.dm.dataset.classnames))
        write_json(results, f"{self.folder}/results.json")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two only wait for each other on models of this size
    yield tmp_path_factory.mktemp("using")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(home):
    """Finished runs by name, "new" being an evaluation of CoOp's on other classes.

    Then the data set is taken away, but for its test images.
    """
    found = {}
    for name, (trainer, *options) in RUNS.items():
        epochs = 2 if name == "CoOp" else 1
        made = make_trainer(
            home,
            trainer,
            "OUTPUT_DIR",
            str(home / name),
            "OPTIM.MAX_EPOCH",
            epochs,
            "TRAIN.CHECKPOINT_FREQ",
            1,
            *PIXELS,
            *options,
        )
        made.train()
        found[name] = Finished(made)
    made = make_trainer(
        home, "CoOp", "OUTPUT_DIR", str(home / "new"), "DATASET.SUBSAMPLE_CLASSES", "new", *PIXELS
    )
    made.load_model(str(home / "CoOp"), 2)
    made.loaded = {"model_dir": "../CoOp", "epoch": 2}
    made.test()
    found["new"] = Finished(made)
    (home / "pictures/more").mkdir(parents=True)
    for path in (home / "data/noise").glob("test-*"):
        path.rename(home / "pictures/more" / path.name)
    shutil.rmtree(home / "data")
    return found


@pytest.fixture
def changed(runs, tmp_path):
    """changed(name, key=value, ...): the folder of a copy of that run with other results."""

    def change(name: str, config: dict | None = None, **values) -> str:
        folder = tmp_path / "changed"
        shutil.copytree(runs[name].folder, folder)
        results = read_json(str(folder / "results.json")) | values
        for key, value in (config or {}).items():
            node = results["config"]
            *parents, leaf = key.split(".")
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        write_json(
            {key: value for key, value in results.items() if value is not None},
            str(folder / "results.json"),
        )
        return str(folder)

    return change


def predicted(
    folder: str, home: Path, *more: str, code: int = 0, top: int = 9
) -> tuple[torch.Tensor, dict]:
    """(probabilities (images, C) in label order, the JSON) of the pictures."""
    file = home / "predicted.json"
    assert (
        predict.main(
            [
                "--model-dir",
                folder,
                str(home / "pictures"),
                "--json",
                str(file),
                "--top",
                str(top),
                *more,
            ]
        )
        == code
    )
    content = read_json(str(file))
    rows = [{one["class"]: one["probability"] for one in item["top"]} for item in content["images"]]
    return torch.tensor([[row[name] for name in content["classnames"]] for row in rows]), content


# predict


@pytest.mark.parametrize("name", [*RUNS, "new"])
def test_predictions_are_the_runs_own_without_its_data(name, runs, home, capsys):
    found, content = predicted(runs[name].folder, home)
    captured = capsys.readouterr()
    expected = runs[name].logits.softmax(1)  # "new" has no test image of the last picture's class
    assert torch.allclose(found[: len(expected)], expected, atol=1e-6) and len(found) == 8
    assert (
        content["classnames"] == (NAMES if name != "new" else NAMES[1:])
        and content["skipped"] == {}
    )
    assert content["images"][0]["image"].endswith("pictures/more/test-golden retriever-0.png")
    assert "note:" not in captured.err and len(captured.out.splitlines()) == 8 * (
        1 + len(content["classnames"])
    )
    assert captured.out.splitlines()[1] == (
        f"  {content['images'][0]['top'][0]['probability']:7.2%}  "
        f"{content['images'][0]['top'][0]['class']}"
    )


def test_any_classes(runs, home, tmp_path, capsys):
    expected = runs["new"].logits.softmax(1)
    assert torch.allclose(
        predicted(runs["CoOp"].folder, home, "--classes", "golden_retriever, red,saxophone")[0][:6],
        expected,
        atol=1e-6,
    )
    (tmp_path / "names.txt").write_text("golden retriever\n\nred\nsaxophone\n")
    assert torch.allclose(
        predicted(runs["CoOp"].folder, home, "--classes-file", str(tmp_path / "names.txt"))[0][:6],
        expected,
        atol=1e-6,
    )
    for name in set(RUNS) - {"CSC"}:
        assert (
            predicted(runs[name].folder, home, "--classes", "ship,a small aeroplane")[0]
            .sum(1)
            .allclose(torch.ones(8))
        )
    predicted(
        runs["CSC"].folder, home, "--classes", "tabby cat,golden retriever,red,saxophone"
    )  # its own
    capsys.readouterr()
    for other in ("saxophone,tabby cat,golden retriever,red", "red,green"):
        assert (
            predict.main(
                ["--model-dir", runs["CSC"].folder, str(home / "pictures"), "--classes", other]
            )
            == 2
        )
        assert (
            "learned 'ctx' for each of its classes, which no other class can use: leave out "
            "--classes" in capsys.readouterr().err
        )


@pytest.mark.parametrize("name", RUNS)
def test_what_is_learned_per_class_is_found_without_a_trace(name, runs):
    trainer = runs[name].trainer
    before, random, numbers = (
        dict(vars(trainer)),
        torch.get_rng_state(),
        dict(trainer.model.state_dict() if trainer.get_model_names() else {}),
    )
    assert trainer.clip.learned_per_class() == (["ctx"] if name == "CSC" else [])
    assert vars(trainer) == before and torch.equal(torch.get_rng_state(), random)
    assert all(
        torch.equal(value, trainer.model.state_dict()[key]) for key, value in numbers.items()
    )


def test_the_model_of_an_evaluation_fits_its_classes(runs, changed, home, capsys):
    """An evaluation of other classes, which older versions did not refuse."""
    folder = changed(
        "CSC",
        loaded={"model_dir": runs["CSC"].folder, "epoch": 1},
        classnames=["saxophone", "tabby_cat", "golden retriever", "red"],
    )
    assert predict.main(["--model-dir", folder, str(home / "pictures")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "'ctx' was learned for each class, and class 0 is 'tabby_cat' there and 'saxophone' here; "
        "use it for the classes" in error
    )


def test_scores_that_are_no_numbers_end_it(runs, changed, home, tmp_path, capsys, monkeypatch):
    file, picture = tmp_path / "found.json", str(home / "pictures")
    with monkeypatch.context() as patch:
        patch.setattr(
            PromptedCLIP,
            "logits",
            lambda self, images, text: torch.full((len(images), 4), torch.nan),
        )
        assert predict.main(["--model-dir", runs["VPT"].folder, picture, "--json", str(file)]) == 2
    said = capsys.readouterr()
    assert (
        said.err.splitlines()[-1].startswith(
            "error: the model's scores are NaN or infinite for some images"
        )
        and said.out == ""
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            PromptedCLIP, "encode_class_texts", lambda self: torch.full((4, 32), torch.inf)
        )
        assert (
            export.main(["--model-dir", runs["VPT"].folder, str(tmp_path / "x.safetensors")]) == 2
        )
    assert (
        "error: 'text_features' of the run holds NaN or infinite numbers" in capsys.readouterr().err
    )
    folder = changed("VPT")
    path = f"{folder}/prompt_learner/model.pth.tar-1"
    checkpoint = torch.load(path)
    checkpoint["state_dict"]["image_encoder.VPT"][0, 0] = torch.nan
    torch.save(checkpoint, path)
    for run in (
        lambda: predict.main(["--model-dir", folder, picture, "--json", str(file)]),
        lambda: export.main(["--model-dir", folder, str(tmp_path / "x.safetensors")]),
    ):
        assert run() == 2
        assert (
            "holds NaN or infinite numbers in 'image_encoder.VPT': load another epoch"
            in capsys.readouterr().err
        )
    assert not list(tmp_path.glob("*.safetensors")) and not file.exists()


def test_the_activation_of_the_run_is_used_and_told(changed, runs, home, tmp_path):
    folder = changed("VPT", {"MODEL.BACKBONE.ACTIVATION": "gelu"})
    assert (predicted(folder, home)[0] - predicted(runs["VPT"].folder, home)[0]).abs().max() > 1e-5
    about = exported(folder, tmp_path / "out.safetensors")[1]
    assert about["activation"] == "gelu" and about["use"] == export.PROMPTED + export.PLAIN
    assert trained.load(runs["VPT"].folder).clip.backbone.activation == "quick_gelu"


def test_runs_from_before_the_key_are_used_as_they_were(changed, monkeypatch):
    """Also with weights that a new run would have to tell the activation of."""
    monkeypatch.setattr(backbone, "NARROWEST", 1)
    folder = changed("VPT")
    results = read_json(f"{folder}/results.json")
    for activation in ("auto", None):
        results["config"]["MODEL"]["BACKBONE"].pop("ACTIVATION")
        results["config"]["MODEL"]["BACKBONE"] |= {"ACTIVATION": activation} if activation else {}
        write_json(results, f"{folder}/results.json")
        assert trained.load(folder).clip.backbone.activation == "quick_gelu"


def test_words_that_clip_never_learned_are_told_on_stderr(runs, home, tmp_path, capsys):
    weights = torch.load(home / "clip.pt")
    weights["token_embedding.weight"][SimpleTokenizer().encode("zebra")] = 0
    torch.save(weights, tmp_path / "other.pt")
    for name in ("CoOp", "ZeroshotCLIP"):
        capsys.readouterr()
        predicted(
            runs[name].folder,
            home,
            "--weights",
            str(tmp_path / "other.pt"),
            "--classes",
            "red,zebra",
        )
        said = capsys.readouterr()
        assert (
            said.err.count("Warning: this CLIP has never learned 'zebra'") == 1
            and "Warning" not in said.out
        )


def test_templates_with_words_that_clip_never_learned_are_told(changed, home, tmp_path, capsys):
    weights = torch.load(home / "clip.pt")
    weights["token_embedding.weight"][SimpleTokenizer().encode("cropped")] = 0
    torch.save(weights, tmp_path / "other.pt")
    folder = changed("ZeroshotCLIP", {"DATASET.TEMPLATE": "a cropped photo of a {}."})
    predicted(folder, home, "--weights", str(tmp_path / "other.pt"))
    assert (
        "so that 1 of 1 texts say less than they seem to: 'a cropped photo of a {}.';"
        in capsys.readouterr().err
    )


def test_unreadable_images_are_named_and_skipped(runs, home, tmp_path, capsys):
    good = Path(shutil.copy(home / "pictures/more/test-red-0.png", tmp_path / "a.png"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(good.read_bytes()[:200])
    shutil.copy(home / "pictures/more/test-red-1.png", tmp_path / "d.png")
    alone, both = str(tmp_path / "b.png"), [str(tmp_path / "a.png"), str(tmp_path / "d.png")]
    file = tmp_path / "found.json"
    assert (
        predict.main(
            ["--model-dir", runs["CoOp"].folder, str(tmp_path), "--top", "1", "--json", str(file)]
        )
        == 1
    )
    captured, content = capsys.readouterr(), read_json(str(file))
    assert [item["image"] for item in content["images"]] == both and captured.out.splitlines()[
        ::2
    ] == both
    assert (
        f"skipped: image '{alone}' cannot be read (not an image)\n" in captured.err
        and "split file" not in captured.err
    )
    assert captured.err.endswith("2 of 4 image(s) could not be read\n") and list(
        content["skipped"]
    ) == [alone, str(tmp_path / "c.png")]
    for item, row in zip(
        content["images"], runs["CoOp"].logits.softmax(1)[2:4], strict=True
    ):  # the pictures of red, of equal size or not
        assert item["top"] == [
            {"class": NAMES[row.argmax()], "probability": pytest.approx(row.max().item(), abs=1e-6)}
        ]
    assert predict.main(["--model-dir", runs["CoOp"].folder, alone]) == 1


def test_a_template_from_the_configuration(changed):
    assert (
        trained.load(changed("ZeroshotCLIP", {"DATASET.TEMPLATE": "my {}."})).clip.class_texts()[0]
        == "my tabby cat."
    )


def test_worker_processes_change_nothing(changed, runs, home):
    folder = changed("CoOp", {"DATALOADER.NUM_WORKERS": 2, "OUTPUT_DIR": "elsewhere"})
    assert torch.equal(predicted(folder, home)[0], predicted(runs["CoOp"].folder, home)[0])


# Which model


def test_the_model_that_was_tested_or_the_epoch_asked_for(changed, runs, home):
    first, last = (
        predicted(runs["CoOp"].folder, home, "--load-epoch", "1")[0],
        runs["CoOp"].logits.softmax(1),
    )
    assert not torch.allclose(first, last, atol=1e-4)
    folder = changed("CoOp", deployed="best_val")
    shutil.copy(
        f"{folder}/prompt_learner/model.pth.tar-1", f"{folder}/prompt_learner/model-best.pth.tar"
    )
    assert torch.equal(predicted(folder, home)[0], first)
    assert torch.allclose(predicted(folder, home, "--load-epoch", "2")[0], last, atol=1e-6)


def test_a_run_that_was_stopped_needs_an_epoch(changed, runs, home):
    folder = changed("CoOp", complete=False)
    assert torch.equal(
        predicted(folder, home, "--load-epoch", "1")[0],
        predicted(runs["CoOp"].folder, home, "--load-epoch", "1")[0],
    )


def test_half_precision_without_a_gpu(changed, runs, home, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found, _ = predicted(changed("MaPLe", {"TRAINER.MAPLE.PREC": "fp16"}), home)
    assert torch.allclose(found, runs["MaPLe"].logits.softmax(1), atol=1e-6)
    assert "PREC fp16 needs a CUDA device: using fp32" in capsys.readouterr().err


def test_weights_elsewhere(changed, runs, home, tmp_path, capsys):
    folder = changed("CoOp", {"MODEL.BACKBONE.NAME": "gone.pt", "MODEL.INIT_WEIGHTS": ""})
    found, _ = predicted(
        folder, home, "--weights", str(shutil.copy(home / "clip.pt", tmp_path / "moved.pt"))
    )
    assert (
        torch.allclose(found, runs["CoOp"].logits.softmax(1), atol=1e-6)
        and "note:" not in capsys.readouterr().err
    )
    weights = torch.load(home / "clip.pt")
    weights["visual.proj"] = -weights["visual.proj"]
    torch.save(weights, tmp_path / "other.pt")
    predicted(folder, home, "--weights", str(tmp_path / "other.pt"))
    assert re.search(
        r"note: '.*other.pt' seems to be another CLIP than the run's \(the configuration's hash is "
        r"\w+ with it, not",
        capsys.readouterr().err,
    )


def test_options_that_came_later(changed, runs, home, capsys, monkeypatch):
    def newer():
        cfg = get_cfg_default()
        cfg.OPTIM.LOOK_AHEAD = 3
        return cfg

    monkeypatch.setattr(trained, "get_cfg_default", newer)
    predicted(runs["CoOp"].folder, home)
    assert "note:" not in capsys.readouterr().err
    model = {
        "BACKBONE": {"NAME": runs["CoOp"].trainer.cfg.MODEL.BACKBONE.NAME}
    }  # nothing can be said without the whole configuration
    assert torch.equal(
        predicted(changed("CoOp", {"MODEL": model}), home)[0],
        predicted(runs["CoOp"].folder, home)[0],
    )
    assert "note:" not in capsys.readouterr().err


# Mistakes: {case: (run, changes of its results, arguments, message)}; RUN, HOME are filled in.

RED = "HOME/pictures/more/test-red-0.png"
MISTAKES = {
    "no run": (
        None,
        {},
        ["--model-dir", "HOME", RED],
        "'HOME/results.json' cannot be read (No such file or directory): give --model-dir the "
        "folder",
    ),
    "no json": (
        None,
        {},
        ["--model-dir", "HOME/json", RED],
        "'HOME/json/results.json' is not valid JSON",
    ),
    "no results": (
        None,
        {},
        ["--model-dir", "HOME/list", RED],
        "'HOME/list/results.json' lacks 'complete': give --model-dir the folder of a run of "
        "train.py",
    ),
    "stopped": (
        "CoOp",
        {"complete": False},
        [RED],
        "the run in 'RUN' is not finished: run its command again, or choose a checkpoint with "
        "--load-epoch",
    ),
    "old": (
        "CoOp",
        {"classnames": None},
        [RED],
        "'RUN/results.json' lacks 'classnames' (an older version wrote it): give --classes, or "
        "test",
    ),
    "unknown key": (
        "CoOp",
        {"config": {"TRAINER.COOP.N_CONTEXT": 4}},
        [RED],
        "unknown config key 'TRAINER.COOP.N_CONTEXT' (in 'RUN/results.json')",
    ),
    "unknown trainer": (
        "CoOp",
        {"config": {"TRAINER.NAME": "CoOpp"}},
        [RED],
        "unknown trainer 'CoOpp': did you mean 'CoOp'?",
    ),
    "not trained": (
        "CoOp",
        {"loaded": {"model_dir": "", "epoch": None}},
        [RED],
        "the run in 'RUN' tested a model that had not been trained: give --model-dir",
    ),
    "another length": (
        "CoOp",
        {"config": {"TRAINER.COOP.N_CTX": 5}},
        [RED],
        "does not fit: 'ctx' is (4, 64) there and (5, 64) here",
    ),
    "another method": (
        "CoOp",
        {"config": {"TRAINER.NAME": "CoCoOp", "TRAINER.COCOOP.N_CTX": 4}},
        [RED],
        "lacks 'meta_net.linear1.weight'",
    ),
    "data set of the templates": (
        "ZeroshotCLIP",
        {"config": {"DATASET.NAME": "Lost"}},
        [RED],
        "unknown dataset 'Lost'",
    ),
    "no weights": (
        "CoOp",
        {"config": {"MODEL.BACKBONE.NAME": "gone.pt"}},
        [RED],
        "MODEL.BACKBONE.NAME 'gone.pt' is neither a file nor one of",
    ),
    "where weights are given": (
        "CoOp",
        {},
        ["--weights", "gone.pt", RED],
        "(here with --weights, which takes the CLIP of the run)",
    ),
    "other weights": (
        "CoOp",
        {},
        ["--weights", str(ROOT / "assets/drawings_clip.pt"), RED],
        "INPUT.SIZE is (32, 32) but",
    ),
    "no epoch": (
        "CoOp",
        {},
        ["--load-epoch", "9", RED],
        "model.pth.tar-9' does not exist: check --model-dir, --load-epoch",
    ),
    "top": ("CoOp", {}, ["--top", "0", RED], "--top is 0: set it to 1 or more"),
    "json": ("CoOp", {}, ["--json", "/", RED], "--json is '/', a folder: give the name of a file"),
    "no image": (
        "CoOp",
        {},
        [RED, "none.png"],
        "image 'none.png' does not exist: correct the path",
    ),
    "empty folder": (
        "CoOp",
        {},
        ["HOME/list"],
        "folder 'HOME/list' holds no images: correct the path",
    ),
    "no class": (
        "CoOp",
        {},
        ["--classes", " ,", RED],
        "--classes holds no class name: give one or more",
    ),
    "one class": (
        "CoOp",
        {},
        ["--classes", "cat", RED],
        "'cat' is the only class, and would have probability 1 for every image: give two or more",
    ),
    "class twice": (
        "CoOp",
        {},
        ["--classes", "cat,dog,cat", RED],
        "--classes names 'cat' twice: give every class once",
    ),
    "no class file": (
        "CoOp",
        {},
        ["--classes-file", "none.txt", RED],
        "'none.txt' cannot be read (No such file or directory): give a text file with one",
    ),
    "binary class file": (
        "CoOp",
        {},
        ["--classes-file", "HOME/binary", RED],
        "--classes-file 'HOME/binary' cannot be read (not UTF-8 text)",
    ),
    "long name": (
        "CoOp",
        {},
        ["--classes", f"cat,{'very ' * 80}long", RED],
        "shorten the name or the context",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_in_one_sentence_and_exit_code_2(case, changed, runs, home, capsys):
    for name, content in (("json", "{"), ("list", "[]")):
        (home / name).mkdir(exist_ok=True)
        (home / name / "results.json").write_text(content)
    (home / "binary").write_bytes(b"\xff\xfe\x80")
    name, changes, arguments, message = MISTAKES[case]
    folder = "" if name is None else changed(name, **changes)
    arguments = [
        *(["--model-dir", folder] if name else []),
        *(word.replace("HOME", str(home)) for word in arguments),
    ]
    assert predict.main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert (
        lines[-1].startswith("error: ")
        and message.replace("RUN", folder).replace("HOME", str(home)) in lines[-1]
    )
    assert (
        captured.out == ""
        and "Traceback" not in captured.err
        and sum(line.startswith("error") for line in lines) == 1
    )


def test_another_kind_of_trainer(changed, home, capsys, monkeypatch):
    monkeypatch.setattr(trained.TRAINER_REGISTRY, "get", lambda name: object)
    assert predict.main(["--model-dir", changed("CoOp"), RED.replace("HOME", str(home))]) == 2
    assert (
        "is of the trainer CoOp, which learns no prompts: give --model-dir a run of a prompt "
        "learner" in capsys.readouterr().err
    )


def test_stopping_it_prints_no_traceback(runs, home, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "predictions", stop)
    assert predict.main(["--model-dir", runs["CoOp"].folder, str(home / "pictures")]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


# export


def exported(folder: str, path: Path, *more: str) -> tuple[dict, dict]:
    assert export.main(["--model-dir", folder, str(path), *more]) == 0
    with safe_open(path, "pt") as file:
        return load_file(path), {key: json.loads(value) for key, value in file.metadata().items()}


@pytest.mark.parametrize("name", [*RUNS, "new"])
def test_exported_is_what_the_run_learned(name, runs, home, tmp_path, capsys):
    trainer = runs[name].trainer
    tensors, about = exported(runs[name].folder, tmp_path / "new folder/out.safetensors")
    learned = trainer.model.state_dict() if trainer.get_model_names() else {}
    assert about["prompts"] == list(learned) and all(
        torch.equal(tensors[key], value) for key, value in learned.items()
    )
    assert (
        about["method"] == trainer.cfg.TRAINER.NAME
        and about["classnames"] == trainer.classnames
        and about["backbone"] == "clip.pt"
    )
    assert about["preprocess"] == {
        "size": [32, 32],
        "interpolation": "bicubic",
        "mean": PIXELS[3],
        "std": PIXELS[5],
        "instance_norm": False,
    }
    assert torch.equal(tensors["scale"], trainer.backbone.scale)
    text = trainer.clip.encode_class_texts()
    assert (
        ("text_features" in tensors) == (name != "CoCoOp") == (not about["text_depends_on_image"])
    )
    if text is not None:
        assert tensors["text_features"].dtype == torch.float32 and torch.allclose(
            tensors["text_features"], text, atol=1e-6
        )
        assert torch.allclose(tensors["text_features"].norm(dim=1), torch.ones(len(text)))
    layers = sorted(key for key in tensors if key.startswith("visual_prompts."))
    assert about["image_tower_needs_prompts"] == (name in VISUAL) == bool(layers)
    assert about["use"] == (
        export.CONDITIONAL
        if name == "CoCoOp"
        else export.PROMPTED
        if name in VISUAL
        else export.FROZEN
    )
    # By hand, from the file and CLIP alone.
    images = torch.stack(
        [trainer.dm.tfm_test(Image.open(path)) for path in (home / "pictures/more").iterdir()]
    )
    features = trainer.backbone.image(
        images, *((tensors[layers[0]], [tensors[key] for key in layers[1:]]) if layers else ())
    )
    assert torch.allclose(
        features / features.norm(dim=1, keepdim=True),
        trainer.clip.image_features(images),
        atol=1e-6,
    )
    assert "out.safetensors: " + about["method"] in capsys.readouterr().out


def test_exported_prompts_load_into_a_new_trainer(runs, home, tmp_path):
    for name in VISUAL[:4]:
        tensors, about = exported(runs[name].folder, tmp_path / "out.safetensors")
        trainer = trained.load(runs[name].folder)
        prompts = trainer.clip.prompts
        prompts.load_state_dict(
            {key: torch.zeros_like(value) for key, value in prompts.state_dict().items()}
        )
        prompts.load_state_dict({key: tensors[key] for key in about["prompts"]})
        assert torch.allclose(
            trainer.clip.encode_class_texts(), tensors["text_features"], atol=1e-6
        )


def test_the_program_of_the_page_predicts_what_predict_does(runs, home, monkeypatch):
    program = next(block for block in PROGRAMS if '"output/run"' in block)
    picture = str(home / "pictures/more/test-red-0.png")
    folder = runs["MaPLe"].folder
    for name, path in (("output/run", folder), ("picture.jpg", picture)):
        assert f'"{name}"' in program
        program = program.replace(f'"{name}"', f'"{path}"')
    variables = {}
    exec(program, variables)
    classes = ",".join(variables["model"].classnames)
    expected, content = predicted(folder, home, "--classes", classes)
    row = [item["image"] for item in content["images"]].index(picture)
    assert len(expected[row]) == 2
    found = dict(variables["prediction"])
    assert list(expected[row]) == pytest.approx([found[name] for name in content["classnames"]])


def test_export_of_any_classes_and_an_earlier_epoch(runs, tmp_path):
    tensors, about = exported(
        runs["CoOp"].folder,
        tmp_path / "out.safetensors",
        "--classes",
        "golden retriever,red,saxophone",
    )
    assert about["classnames"] == NAMES[1:] and torch.allclose(
        tensors["text_features"], runs["new"].trainer.clip.encode_class_texts(), atol=1e-6
    )
    earlier, _ = exported(runs["CoOp"].folder, tmp_path / "out.safetensors", "--load-epoch", "1")
    assert not torch.equal(earlier["ctx"], tensors["ctx"])


def test_images_without_normalisation(changed, tmp_path):
    _, about = exported(
        changed("CoOp", {"INPUT.TRANSFORMS": ["random_flip"]}), tmp_path / "out.safetensors"
    )
    assert about["preprocess"]["mean"] == [0, 0, 0] and about["preprocess"]["std"] == [1, 1, 1]


def test_export_mistakes(runs, tmp_path, capsys):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("")
    for out, message in (
        ("out.pt", "is not the name of a file that ends in .safetensors: give one to write to"),
        ("folder.safetensors", "is not the name of a file"),
        ("file/out.safetensors", "cannot be written (Not a directory): choose another OUT"),
    ):
        assert export.main(["--model-dir", runs["CoOp"].folder, str(tmp_path / out)]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ") and message in line
    assert (
        export.main(
            [
                "--model-dir",
                runs["CSC"].folder,
                str(tmp_path / "out.safetensors"),
                "--classes",
                "a,b",
            ]
        )
        == 2
    )
    assert (
        "learned 'ctx' for each of its classes" in capsys.readouterr().err
        and not (tmp_path / "out.safetensors").exists()
    )


@pytest.mark.parametrize("name", ["CoOp", "CraftCoOp", "ZeroshotCLIP"])
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_the_page_predicts_what_the_run_predicts(
    name, runs, home, tmp_path, capsys, monkeypatch
):
    reading, example = PROGRAMS[:2]
    lines = [line for line in example.splitlines() if line and "import" not in line]
    assert len(lines) <= 10
    clip_file, file, picture = (
        re.search(rf'{call}\("(.+?)"', example)[1]
        for call in ("clip.load", "safe_open", "read_picture")
    )
    exported(runs[name].folder, tmp_path / file)
    for source, target in (
        (home / "clip.pt", clip_file),
        (home / "pictures/more/test-saxophone-1.png", picture),
    ):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    capsys.readouterr()
    exec(compile(reading + example, "docs/using.md", "exec"), variables)
    expected = runs[name].logits.softmax(1)[5]
    assert torch.allclose(variables["probabilities"], expected, atol=1e-5)
    label, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    assert label == NAMES[expected.argmax()] and float(probability) == pytest.approx(
        expected.max().item(), abs=1e-5
    )


@pytest.mark.parametrize("config", [{}, READING, READING | {"INPUT.DRAFT": True}])
@pytest.mark.filterwarnings("ignore")
def test_the_example_reads_odd_pictures_as_predict_does(
    config, runs, home, changed, tmp_path, monkeypatch
):
    folder, odd = changed("CoOp", config), write_odd(tmp_path / "odd")
    reading, example = PROGRAMS[:2]
    clip_file, file, picture = (
        re.search(rf'{call}\("(.+?)"', example)[1]
        for call in ("clip.load", "safe_open", "read_picture")
    )
    exported(folder, tmp_path / file)
    (tmp_path / clip_file).parent.mkdir(parents=True)
    shutil.copy(home / "clip.pt", tmp_path / clip_file)
    monkeypatch.chdir(tmp_path)
    for path, expected in predict.predictions(trained.load(folder), odd):
        variables: dict = {}
        code = compile(reading + example.replace(picture, path), "docs/using.md", "exec")
        if path.endswith(DEEP):
            with pytest.raises(AssertionError, match="deep grey values: save it with 8 bits"):
                exec(code, variables)
            continue
        exec(code, variables)
        assert torch.allclose(variables["probabilities"], expected, atol=1e-5), path


# interpret


def reference(vector: torch.Tensor, vocabulary: torch.Tensor, top: int) -> list[tuple[str, float]]:
    """The plain way, in double precision."""
    distances = (vocabulary.double() - vector.double()).norm(dim=1)
    decoder = SimpleTokenizer().decoder
    return [
        (decoder[token], distances[token].item()) for token in distances.argsort()[:top].tolist()
    ]


@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_nearest_words_of_every_context(name, runs, tmp_path, capsys):
    file = tmp_path / "words.json"
    assert (
        interpret.main(["--model-dir", runs[name].folder, "--top", "3", "--json", str(file)]) == 0
    )
    captured, found = capsys.readouterr(), read_json(str(file))["contexts"]
    trainer = runs[name].trainer
    context = next(
        module.ctx for module in trainer.model.modules() if isinstance(module, Context)
    ).detach()
    assert [item["class"] for item in found] == (NAMES if name == "CSC" else [None])
    context = context.view(len(found), *context.shape[-2:])
    assert len(captured.out.splitlines()) == context.shape[0] * (context.shape[1] + (name == "CSC"))
    for item, vectors in zip(found, context, strict=True):
        for row, vector in zip(item["vectors"], vectors, strict=True):
            expected = reference(vector, trainer.backbone.text.token_embedding_weight, 3)
            assert [one["distance"] for one in row] == pytest.approx(
                [distance for _, distance in expected], rel=1e-5
            )
            for one, (token, _) in zip(row, expected, strict=True):
                assert token.isascii() is False or one["word"] == token.removesuffix(
                    "</w>"
                ) + "-" * (not token.endswith(("</w>", "|>")))
    assert ("deeper layer(s) are not shown" in captured.err) == (name in VISUAL)


def test_a_planted_word_is_found(runs, changed, tmp_path, capsys):
    folder = changed("CoOp")
    path = f"{folder}/prompt_learner/model.pth.tar-2"
    checkpoint, encoder = torch.load(path), SimpleTokenizer().encoder
    words = ["cat</w>", "retri", "<|endoftext|>", "caf"]
    checkpoint["state_dict"]["ctx"] = (
        runs["CoOp"].trainer.backbone.text.token_embedding_weight[[encoder[word] for word in words]]
        + 1e-4
    )
    torch.save(checkpoint, path)
    assert interpret.main(["--model-dir", folder, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for number, (line, text) in enumerate(
        zip(lines, ("cat", "retri-", "<|endoftext|>", "caf-"), strict=True), 1
    ):
        assert line.startswith(f"{number:3}  {text} (0.0008)  ")  # sqrt(64) * 1e-4


@pytest.mark.parametrize("name", ["VPT", "ZeroshotCLIP"])
def test_methods_without_a_context_are_refused(name, runs, capsys):
    assert interpret.main(["--model-dir", runs[name].folder]) == 2
    message = (
        f"error: {name} learns no text context, so there are no words to compare: give --model-dir "
        "a run of another method"
    )
    assert capsys.readouterr().err.strip().endswith(message)
    assert interpret.main(["--model-dir", runs[name].folder, "--top", "0"]) == 2


# All of them


def test_runs_are_left_as_they_were(runs, home):
    names = sorted(path.name for path in Path(runs["CoOp"].folder).rglob("*"))
    predicted(runs["CoOp"].folder, home)
    assert (
        sorted(path.name for path in Path(runs["CoOp"].folder).rglob("*")) == names
        and not (home / "data").exists()
    )


@pytest.mark.slow
def test_the_program_itself(runs, home):
    good = RED.replace("HOME", str(home))
    words = ("--model-dir", str(runs["MaPLe"].folder), "--top", "1", good, "README.md")
    done = forked.python("-m", "tools.predict", *words, cwd=ROOT)
    best = runs["MaPLe"].logits.softmax(1)[2]
    assert (
        done.stdout == f"{good}\n  {best.max():7.2%}  {NAMES[best.argmax()]}\n"
        and done.returncode == 1
    )
    assert (
        "skipped: image 'README.md' cannot be read (not an image)\n1 of 2 image(s)" in done.stderr
        and "Traceback" not in done.stderr
    )
