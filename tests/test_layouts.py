"""tools.export --format: clip, open_clip and Hugging Face's CLIPModel predict as the run does."""

import importlib.util
import itertools
import json
import re
import shutil
from pathlib import Path

import clip.model
import pytest
import torch
from odd_pictures import DEEP, READING, write_odd
from PIL import Image
from safetensors.torch import load_file
from tiny_clip import TINY, images, vit_weights
from tiny_run import PIXELS, make_trainer

from dassl.utils import read_json
from tools import export, layouts, predict, trained
from trainers.backbone import Backbone, load_backbone

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/using.md").read_text()
SIZE = TINY["image"]
RUNS = {
    "CSC": ("TRAINER.COOP.CSC", True),
    "CraftCoOp": (),
    "IVLP": ("TRAINER.IVLP.PROMPT_DEPTH_VISION", 0),  # deep text prompts only
    "LinearProbe": ("TRAINER.LINEAR_PROBE.PREC", "fp32"),
    "gelu": ("MODEL.BACKBONE.ACTIVATION", "gelu"),
}
REFUSED = {"VPT": "visual prompts", "MaPLe": "visual prompts", "CoCoOp": "for each image"}


def needed(layout: str) -> None:
    """Skip a test whose library is not installed."""
    package = {"open_clip": "open_clip", "hf": "transformers"}.get(layout, "clip")
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed: pip install -r requirements.txt")


def load(layout: str, folder: Path):
    """(image encoder, text encoder, tokens) -> features, of the library's own model."""
    needed(layout)
    if layout == "clip":
        model, _ = clip.load(str(folder / "clip.pt"), device="cpu")
        return model.encode_image, model.encode_text
    if layout == "open_clip":
        import open_clip

        model = open_clip.create_model(f"local-dir:{folder}").eval()
        return model.encode_image, model.encode_text
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    return (
        lambda pixels: model.get_image_features(pixel_values=pixels).pooler_output,
        lambda tokens: model.get_text_features(input_ids=tokens).pooler_output,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def runs(home):
    """Finished runs by name."""
    found = {}
    for name in (*RUNS, *REFUSED, "TipAdapter"):
        kind = "CoOp" if name in ("CSC", "gelu") else name
        options = RUNS.get(name, ())
        if name == "TipAdapter":
            options = ("TRAINER.TIP_ADAPTER.PREC", "fp32")
        folder = str(home / name)
        made = make_trainer(
            home, kind, "OUTPUT_DIR", folder, "OPTIM.MAX_EPOCH", 1, *PIXELS, *options
        )
        made.train()
        made.set_model_mode("eval")
        found[name] = made
    return found


def exported(run: str, layout: str, folder: Path, *more: str) -> Path:
    assert export.main(["--model-dir", run, "--format", layout, str(folder), *more]) == 0
    return folder


# clip.load computes no plain GELU
PAIRS = [pair for pair in itertools.product(RUNS, layouts.LAYOUTS) if pair != ("gelu", "clip")]


@pytest.mark.parametrize(("name", "layout"), PAIRS)
@pytest.mark.filterwarnings("ignore")
def test_the_library_predicts_as_the_run_does(name, layout, runs, tmp_path):
    trainer, batch = runs[name], images(5, SIZE)
    folder = trainer.cfg.OUTPUT_DIR
    out = exported(folder, layout, tmp_path / "out")
    encode_image, encode_text = load(layout, out)
    side = load_file(out / layouts.SIDE)
    tokens = trainer.backbone.tokenize(["a cat", "my old saxophone."])
    with torch.no_grad():
        image, text = encode_image(batch), encode_text(tokens)
        found = side["scale"] * (image / image.norm(dim=1, keepdim=True)) @ side["text_features"].T
        expected = trainer.model_inference(batch).softmax(1)
    assert torch.allclose(found.softmax(1), expected, atol=1e-5)
    text = text / text.norm(dim=1, keepdim=True)
    assert torch.allclose(
        text, trainer.backbone.encode_texts(["a cat", "my old saxophone."]), atol=1e-5
    )
    assert not (expected - expected.mean(0)).abs().max() < 1e-4  # it tells the pictures apart


def test_other_classes_and_an_epoch_go_into_the_side_file(runs, tmp_path):
    out = exported(
        runs["CraftCoOp"].cfg.OUTPUT_DIR, "hf", tmp_path / "a/out", "--classes", "ship,red"
    )
    side = load_file(out / layouts.SIDE)
    expected = runs["CraftCoOp"].clip.for_classes(["ship", "red"]).encode_class_texts()
    assert torch.allclose(side["text_features"], expected, atol=1e-6)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        layouts.SIDE,
        "model.safetensors",
        "preprocessor_config.json",
    ]


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_what_a_plain_clip_cannot_compute_is_refused_by_name(layout, runs, tmp_path, capsys):
    out = tmp_path / "out"
    for name, reason in REFUSED.items():
        folder = runs[name].cfg.OUTPUT_DIR
        assert export.main(["--model-dir", folder, "--format", layout, str(out)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: {name} ") and reason in line
        assert line.endswith(f"leave out --format {layout}")
    folder = runs["TipAdapter"].cfg.OUTPUT_DIR
    assert export.main(["--model-dir", folder, "--format", layout, str(out)]) == 2
    assert "TipAdapter has logits that features of images and texts" in capsys.readouterr().err
    gelu = runs["gelu"].cfg.OUTPUT_DIR
    assert export.main(["--model-dir", gelu, "--format", "clip", str(out)]) == 2
    assert (
        "was trained with gelu, and clip.load computes quick_gelu only: choose --format open_clip "
        "or hf" in capsys.readouterr().err
    )
    assert not out.exists() and not list(tmp_path.iterdir())


def test_a_transform_that_no_library_has(runs, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(runs["CraftCoOp"].cfg.OUTPUT_DIR, folder)
    results = read_json(str(folder / "results.json"))
    results["config"]["INPUT"]["TRANSFORMS"] = ["normalize", "instance_norm"]
    (folder / "results.json").write_text(json.dumps(results))
    arguments = ["--model-dir", str(folder), "--format", "hf", str(tmp_path / "out")]
    assert export.main(arguments) == 2
    assert "INPUT.TRANSFORMS has instance_norm, which the other" in capsys.readouterr().err


def test_a_folder_that_is_there_stays(runs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    arguments = ["--model-dir", runs["CraftCoOp"].cfg.OUTPUT_DIR, "--format", "clip"]
    assert export.main([*arguments, str(tmp_path / "out")]) == 2
    assert "out' is there already: choose a new or an empty folder" in capsys.readouterr().err
    assert export.main([*arguments, str(tmp_path / "out/mine/more")]) == 2
    assert "cannot be written (Not a directory): choose another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


# Weights


def test_the_weights_of_a_backbone_are_those_of_its_file():
    weights = vit_weights(**TINY)
    found = Backbone(weights).weights()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    half = Backbone(vit_weights(**TINY), "fp16").weights()
    assert half["visual.proj"].dtype == torch.half
    assert all(torch.allclose(half[name].float(), weights[name], atol=1e-3) for name in weights)


@pytest.mark.filterwarnings("ignore")
def test_rounding_by_clip_is_told(runs, home, tmp_path, capsys):
    assert layouts.rounded_by_clip(Backbone(vit_weights(**TINY))) == []
    weights = vit_weights(**TINY)
    for name in ("visual.proj", "transformer.resblocks.1.mlp.c_fc.bias", "ln_final.weight"):
        weights[name] = weights[name] * 1.0001
    changed = layouts.rounded_by_clip(Backbone(weights))
    assert sorted(changed) == ["transformer.resblocks.1.mlp.c_fc.bias", "visual.proj"]
    torch.save(weights, tmp_path / "other.pt")
    folder, other = runs["CraftCoOp"].cfg.OUTPUT_DIR, str(tmp_path / "other.pt")
    out = exported(folder, "clip", tmp_path / "out", "--weights", other)
    assert "changes 2 tensors of this CLIP (first 'transformer." in capsys.readouterr().err
    model, _ = clip.load(str(out / "clip.pt"), device="cpu")
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, weights[name])}
    assert weights.keys() - kept == set(changed)
    exported(folder, "hf", tmp_path / "hf", "--weights", other)
    assert "rounds" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["clip", "open_clip"])
def test_a_resnet(layout, home, runs, tmp_path):
    torch.manual_seed(0)
    model = clip.model.CLIP(32, SIZE, (1, 2, 1, 1), 16, None, 77, 49408, 64, 1, 2).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()  # as OpenAI's are stored
    torch.save(model.state_dict(), tmp_path / "rn.pt")
    backbone = load_backbone(str(tmp_path / "rn.pt"))
    for name, content in layouts.LAYOUTS[layout](backbone, runs["CraftCoOp"].cfg).items():
        (tmp_path / name).write_bytes(content)
    encode_image, encode_text = load(layout, tmp_path)
    with torch.no_grad():
        expected = model.encode_image(images(3, SIZE))
        assert torch.allclose(encode_image(images(3, SIZE)), expected, rtol=1e-4, atol=1e-5)
        tokens = backbone.tokenize(["a cat", "a dog"])
        assert torch.allclose(encode_text(tokens), model.encode_text(tokens), rtol=1e-4, atol=1e-5)
    with pytest.raises(export.UserError, match="has a ResNet, which Hugging Face's CLIPModel does"):
        layouts.for_hf(backbone, runs["CraftCoOp"].cfg)


# The page


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_the_examples_of_the_page_predict_what_the_run_predicts(
    layout, runs, home, tmp_path, monkeypatch
):
    needed(layout)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    reading = next(block for block in blocks if "def read_picture" in block)
    loader = next(block for block in blocks if f'folder = "exported/{layout}"' in block)
    rest = next(block for block in blocks if "side.metadata()" in block)
    lines = [line for line in (loader + rest).splitlines() if line and "import" not in line]
    assert len(lines) <= 13
    run = tmp_path / "run"
    shutil.copytree(runs["CraftCoOp"].cfg.OUTPUT_DIR, run)
    results = read_json(str(run / "results.json"))
    results["config"]["INPUT"] |= {key.partition(".")[2]: word for key, word in READING.items()}
    (run / "results.json").write_text(json.dumps(results))
    exported(str(run), layout, tmp_path / f"exported/{layout}")
    path = re.search(r'read_picture\("(.+?)"', rest)[1]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    picture = next((home / "data/noise").glob("test-red-1*"))
    shutil.copy(picture, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    variables: dict = {}
    for block in (reading, loader, rest):
        exec(compile(block, "docs/using.md", "exec"), variables)
    trainer = runs["CraftCoOp"]
    with torch.no_grad():
        image = trainer.dm.tfm_test(Image.open(picture).convert("RGB"))[None]
        expected = trainer.model_inference(image).softmax(1)[0]
    assert torch.allclose(variables["probabilities"], expected, atol=1e-5)
    odd = [one for one in write_odd(tmp_path / "odd") if not one.endswith(DEEP)]
    for one, expected in predict.predictions(trained.load(str(run)), odd):
        exec(rest.replace(path, one), variables)
        assert torch.allclose(variables["probabilities"], expected, atol=1e-5), one
