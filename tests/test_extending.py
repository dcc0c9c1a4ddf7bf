"""docs/extending.md, followed literally."""

import json
import re
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

import train
import trainers
from dassl.config import cfg_to_dict
from dassl.utils import read_json

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
STRUCTURE, CONFIG, CRAFTED, CRAFT_CONFIG, DATA = (text for _, text in BLOCKS)


def module(name: str, code: str) -> types.ModuleType:
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(compile(code, name, "exec"), made.__dict__)
    return made


@pytest.fixture(scope="module", autouse=True)
def extended():
    """The files that the page asks for, in this process only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "MODULES", (*trainers.MODULES, module("trainers.bias", STRUCTURE)))
        module("crafted", CRAFTED)
        module("datasets.pond", DATA)
        yield


@pytest.fixture
def folder(tmp_path):
    """A pond of three animals, and the two configs beside links to the shared ones."""
    split = {part: [] for part in ("train", "val", "test")}
    for part, rows in split.items():
        for label, name in enumerate(("frog", "newt", "pike")):
            for i in range(3):
                path = tmp_path / f"data/pond/images/{name}/{part}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (80, 70), (80 * label, 40 * i, 90)).save(path)
                rows.append([f"{name}/{path.name}", label, name])
    (tmp_path / "data/pond/split_zhou_Pond.json").write_text(json.dumps(split))
    for place, text in (("configs/trainers/Bias", CONFIG), ("configs/trainers/CraftBias", CRAFT_CONFIG)):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "openmoji.yaml").write_text(text)
    (tmp_path / "configs/base").symlink_to(ROOT / "configs/base")
    (tmp_path / "pond.yaml").write_text("DATASET:\n  NAME: Pond\n")
    return tmp_path


@pytest.mark.parametrize("trainer", ["Bias", "CraftBias"])
def test_the_structure_of_the_page_trains_on_the_data_set_of_the_page(folder, trainer):
    args = train.parse_args(["--root", str(folder / "data"), "--seed", "1", "--trainer", trainer, "--output-dir", str(folder / "out"),
                             "--dataset-config-file", str(folder / "pond.yaml"),
                             "--config-file", str(folder / f"configs/trainers/{trainer}/openmoji.yaml"), "DATASET.NUM_SHOTS", "2"])
    assert cfg_to_dict(train.setup_cfg(args))["TRAINER"]["BIAS"] == {"PREC": "fp32"}
    assert train.main(args) == 0
    results = read_json(str(folder / "out/results.json"))
    assert results["complete"] and results["trainer"] == trainer and results["metrics"]["test"]["total"] == 9
    log = (folder / "out/log.txt").read_text()
    assert ("craft_static" in log) == (trainer == "CraftBias") and (folder / "out/prompt_learner/model.pth.tar-2").is_file()
