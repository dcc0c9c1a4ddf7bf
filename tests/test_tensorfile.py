"""Reading files of tensors: what comes out of good ones, and that bad ones cannot do anything."""

import argparse
import collections
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import clip
import clip.model
import numpy as np
import pytest
import torch
import yaml
from published import Published, nested
from tiny_clip import TINY, images, vit_weights
from tiny_run import STRUCTURES, make_cfg, make_trainer

import train
from dassl.config import cfg_to_dict
from dassl.utils import UserError, load_checkpoint
from dassl.utils.tensorfile import Opaque, Unreadable, read_file
from tools import export, figures, interpret, predict
from trainers import backbone
from trainers.backbone import load_backbone

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = torch.arange(12.0).reshape(3, 4) / 7


# Good files

TENSORS = {
    "plain": NUMBERS,
    "transposed": NUMBERS.t(),
    "part": NUMBERS[1:, ::2],
    "half": NUMBERS.half(),
    "bfloat": NUMBERS.bfloat16(),
    "double": NUMBERS.double(),
    "whole": torch.arange(5),
    "bool": NUMBERS > 0.5,
    "none": torch.empty(0, 3),
    "one": torch.tensor(2.0),
    "repeated": torch.ones(1).expand(3, 2),
    "bytes": torch.arange(9).to(torch.uint8),
    "unsigned": torch.arange(4).to(torch.uint16),
    "complex": torch.tensor([1 + 2j]),
    "parameter": torch.nn.Parameter(NUMBERS.clone()),
}
PLAIN = {
    "number": 3,
    "huge": 2**70,
    "float": -1.5,
    "text": "é",
    "none": None,
    "list": [1, [2]],
    "tuple": (1, (2.5, "x")),
    "set": {1, 2},
    "bytes": b"\xff\x00",
    "dtype": torch.float16,
    "nested": {"a": {1: {2: 3}}},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_and_plain_values_come_back_as_they_were(tmp_path, zipped):
    content = {"state_dict": collections.OrderedDict(TENSORS), **PLAIN}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found, unread = read_file(str(tmp_path / "x.pt"))
    assert not unread and {key: found[key] for key in PLAIN} == PLAIN
    assert list(found["state_dict"]) == list(TENSORS)
    for name, expected in TENSORS.items():
        value = found["state_dict"][name]
        assert value.dtype == expected.dtype and torch.equal(value, expected.detach()), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_objects_of_other_classes_are_named_and_left_alone(tmp_path, zipped):
    content = {
        "state_dict": {"ctx": NUMBERS},
        "epoch": 1,
        "args": argparse.Namespace(lr=1),
        "where": Path("runs"),
        "array": np.arange(3),
        "device": torch.device("cpu"),
        "default": collections.defaultdict(dict, {1: {"a": NUMBERS}}),
        "best": np.float64(81.5),
        "loss": np.float32(0.25),
        "count": np.int64(-3),
    }
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found, unread = read_file(str(tmp_path / "x.pt"))
    assert (found["best"], found["loss"], found["count"]) == (81.5, 0.25, -3)
    assert torch.equal(found["default"][1]["a"], NUMBERS)
    assert all(type(found[key]).__base__ is Opaque for key in ("args", "where", "array", "device"))
    path = f"pathlib.{type(Path()).__name__}"
    assert unread - {path, "pathlib._local.PosixPath"} == {
        "argparse.Namespace",
        "numpy.ndarray",
        "torch.device",
    }


def test_what_is_not_read_of_a_checkpoint_is_said(tmp_path, capsys):
    path = str(tmp_path / "x.pt")
    torch.save({"state_dict": {"ctx": NUMBERS}, "args": argparse.Namespace(lr=1)}, path)
    assert torch.equal(load_checkpoint(path)["state_dict"]["ctx"], NUMBERS)
    assert capsys.readouterr().out == (
        f"Not read from '{path}', since only tensors and plain values are: argparse.Namespace\n"
    )


def test_tensors_that_share_numbers_still_share_them(tmp_path):
    torch.save({"a": NUMBERS, "b": NUMBERS[1]}, tmp_path / "x.pt")
    found, _ = read_file(str(tmp_path / "x.pt"))
    found["a"][1] = -1
    assert found["b"].tolist() == [-1] * 4


# Checkpoints of upstream's trainers

LEARNED = {
    name: {
        "CoOp": "prompt_learner",
        "CoCoOp": "prompt_learner",
        "VPT": "prompt_learner",
        "MaPLe": "MultiModalPromptLearner",
    }.get(name, "VLPromptLearner")
    for name in STRUCTURES
}


def published(folder: Path, name: str, **options) -> tuple[Published, dict[str, torch.Tensor]]:
    """A checkpoint of the structure `name` in `folder`/published, and what it learned."""
    trainer = make_trainer(folder, name)
    learned = {key: torch.randn_like(value) for key, value in trainer.model.state_dict().items()}
    frozen, lead = {}, ""
    if name not in ("CoOp", "CoCoOp"):
        lead = "prompt_learner."
        frozen = {
            "logit_scale": torch.tensor(4.6),
            "image_encoder.conv1.weight": torch.randn(8, 3, 2, 2),
            "text_encoder.transformer.resblocks.0.ln_1.weight": torch.randn(8),
        }
    buffers = {
        f"{lead}token_prefix": torch.randn(9, 1, 64),
        f"{lead}token_suffix": torch.randn(9, 5, 64),
    }
    made = Published(learned, frozen, buffers, **options)
    made.save(folder / "published", LEARNED[name])
    state = made.model.state_dict()
    return made, {key: state[key] for key in learned}


@pytest.mark.parametrize(
    "name, optimizer", [(name, "sgd") for name in STRUCTURES] + [("VPT", "adam")]
)
def test_published_checkpoints_with_a_warm_up_load(tmp_path, name, optimizer, capsys):
    made, learned = published(tmp_path, name, optimizer=optimizer)
    with pytest.raises(pickle.UnpicklingError):  # what makes such a file one that torch refuses
        torch.load(tmp_path / "published" / LEARNED[name] / "model.pth.tar-3", weights_only=True)
    trainer = make_trainer(tmp_path, name)
    for epoch in (3, None):
        trainer.load_model(str(tmp_path / "published"), epoch)
        assert all(
            torch.equal(value, learned[key]) for key, value in trainer.model.state_dict().items()
        )
    assert "torch.optim.lr_scheduler.CosineAnnealingLR" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, optimizer, scheduler, warm_up",
    [
        *[(name, "sgd", "cosine", True) for name in STRUCTURES],
        ("MaPLe", "adam", "cosine", True),
        ("CoOp", "sgd", "cosine", False),
        ("MaPLe", "sgd", "single_step", True),
        ("CoOp", "adam", "multi_step", True),
        ("CoOp", "sgd", "multi_step", False),
    ],
)
def test_a_run_goes_on_from_a_published_checkpoint(tmp_path, name, optimizer, scheduler, warm_up):
    made, learned = published(
        tmp_path, name, optimizer=optimizer, scheduler=scheduler, warm_up=warm_up
    )
    options = (
        "OPTIM.NAME",
        optimizer,
        "OPTIM.MAX_EPOCH",
        10,
        "OPTIM.LR_SCHEDULER",
        scheduler,
        "OPTIM.STEPSIZE",
        (2,) if scheduler == "single_step" else (2, 4),
        "OPTIM.WARMUP_EPOCH",
        1 if warm_up else -1,
        "OPTIM.WARMUP_TYPE",
        "constant",
    )
    trainer = make_trainer(tmp_path, name, *options)
    assert trainer.resume_model_if_exist(str(tmp_path / "published")) == 3
    order = [key for key, _ in made.model.named_parameters()]
    theirs = made.optimizer.state_dict()["state"]
    for key, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, learned[key])
        for what, value in theirs[order.index(key)].items():
            assert torch.equal(
                torch.as_tensor(trainer.optim.state[parameter][what]), torch.as_tensor(value)
            )
    for _ in range(5):
        assert trainer.get_current_lr() == pytest.approx(
            made.optimizer.param_groups[0]["lr"], rel=1e-12
        )
        trainer.update_lr()
        made.optimizer.step()
        made.scheduler.step()


def test_promptsrc_averages_the_epochs_that_it_trains_after_a_published_checkpoint(
    tmp_path, capsys
):
    published(tmp_path, "PromptSRC")
    trainer = make_trainer(
        tmp_path,
        "PromptSRC",
        "OPTIM.MAX_EPOCH",
        5,
        "TRAINER.PROMPTSRC.GPA_MEAN",
        4.0,
        "RESUME",
        str(tmp_path / "published"),
        "TRAIN.CHECKPOINT_FREQ",
        1,
    )
    seen, after = [], trainer.after_epoch

    def recorded():
        seen.append({key: value.clone() for key, value in trainer.model.state_dict().items()})
        after()

    trainer.after_epoch = recorded
    trainer.train()
    weights = torch.tensor(trainer.gpa_weights[3:])
    for key, value in trainer.model.state_dict().items():
        expected = sum(w * one[key] for w, one in zip(weights / weights.sum(), seen, strict=True))
        assert torch.allclose(value, expected, atol=1e-6)
    assert "average of the prompts starts at epoch 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.ones(3)),
            "is \\(3,\\) for",
        ),
        (
            lambda state: state["optimizer"]["param_groups"][0].update(lr=float("nan")),
            "'lr' is nan",
        ),
        (
            lambda state: state["scheduler"].update(last_epoch="3"),
            "scheduler state is of another kind",
        ),
        (lambda state: state["scheduler"].update(base_lrs=[]), "'base_lrs' is not such as"),
        (lambda state: state["scheduler"].update(base_lrs=["x"]), "'base_lrs' is not such as"),
    ],
)
def test_states_that_would_fail_in_the_next_step_are_refused(tmp_path, change, message):
    made, _ = published(tmp_path, "CoOp", warm_up=False)
    path = tmp_path / "published/prompt_learner/model.pth.tar-3"
    state = torch.load(path, weights_only=False)
    change(state)
    torch.save(state, path)
    with pytest.raises(UserError, match=message):
        make_trainer(tmp_path, "CoOp").resume_model_if_exist(str(tmp_path / "published"))


@pytest.mark.parametrize("key", ["INIT_WEIGHTS", "RESUME"])
def test_contexts_of_other_classes_are_no_start(tmp_path, key, capsys):
    """A context per class fits its own classes only, wherever it comes from."""
    options = ("TRAINER.COOP.CSC", True)
    made, _ = published(tmp_path, "CoOp")
    trainer = make_trainer(tmp_path, "CoOp", *options)
    path = tmp_path / "published/prompt_learner/model.pth.tar-3"
    for names in (["a", "b", "c", "d"], None):
        state = {"state_dict": trainer.model.state_dict(), "epoch": 3, "classnames": names}
        torch.save(state, path)
        capsys.readouterr()

        def start():
            if key == "RESUME":
                return make_trainer(tmp_path, "CoOp", *options).resume_model_if_exist(
                    str(tmp_path / "published")
                )
            return make_trainer(tmp_path, "CoOp", *options, "MODEL.INIT_WEIGHTS", str(path))

        if names:
            with pytest.raises(
                UserError, match="'ctx' was learned for each class, and class 0 is 'a' there"
            ):
                start()
        else:
            start()
            assert "does not tell which classes it was trained on" in capsys.readouterr().out


def test_settings_of_an_optimizer_that_are_no_numbers_are_refused(tmp_path):
    made, _ = published(tmp_path, "CoOp")
    made.optimizer.param_groups[0]["lr"] = argparse.Namespace()
    made.save(tmp_path / "published", "prompt_learner")
    with pytest.raises(
        UserError, match=r"its optimizer state is of another kind \('lr' is no number\)"
    ):
        make_trainer(tmp_path, "CoOp").resume_model_if_exist(str(tmp_path / "published"))


# Files that attack


class Bomb:
    """Pickled as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def bombs(marker: Path) -> dict[str, Bomb]:
    """Each makes the file `marker` when a common unpickler loads it."""
    path = str(marker)
    return {
        "open": Bomb(open, path, "w"),
        "os": Bomb(os.system, f"touch '{path}'"),
        "exec": Bomb(exec, f"open({path!r}, 'w')"),
        "eval": Bomb(eval, f"open({path!r}, 'w')"),
        "subprocess": Bomb(subprocess.call, ["touch", path]),
        "numpy": Bomb(np.save, path, 1),
        "torch": Bomb(torch.save, 1, path),
        "zipfile": Bomb(zipfile.ZipFile, path, "w"),
        "nested": Bomb(list, [Bomb(open, path, "w")]),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("kind", bombs(Path("x")))
def test_no_function_that_a_file_names_is_called(tmp_path, kind, zipped):
    marker, path = tmp_path / "marker", tmp_path / "x.pt"
    torch.save(
        {"state_dict": {"ctx": NUMBERS}, "bomb": bombs(marker)[kind]},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    found, unread = read_file(str(path))
    assert not list(tmp_path.glob("marker*")) and unread and isinstance(found["bomb"], Opaque)
    torch.load(path, weights_only=False)
    assert list(tmp_path.glob("marker*"))  # the file does attack


def raw(path: Path, *parts: bytes) -> str:
    """A checkpoint whose pickle has these instructions."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + b"".join(parts) + b".")
        archive.writestr("x/data/0", bytes(16))
    return str(path)


def storage(count: int = 4, kind: bytes = b"FloatStorage", key: bytes = b"0") -> bytes:
    text = [b"X" + struct.pack("<I", len(word)) + word for word in (b"storage", key, b"cpu")]
    return (
        b"("
        + text[0]
        + b"ctorch\n"
        + kind
        + b"\n"
        + text[1]
        + text[2]
        + b"J"
        + struct.pack("<i", count)
        + b"tQ"
    )


def tensor(offset: int, size: tuple, stride: tuple, **of) -> bytes:
    numbers = [b"J" + struct.pack("<i", number) for number in (offset, *size, *stride)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage(**of)
        + numbers[0]
        + b"("
        + b"".join(numbers[1 : 1 + len(size)])
        + b"t("
        + b"".join(numbers[1 + len(size) :])
        + b"t\x89}tR"
    )


def test_a_tensor_reaches_no_further_than_its_numbers(tmp_path):
    path = tmp_path / "x.pt"
    found, _ = read_file(raw(path, tensor(1, (3,), (1,))))
    assert found.tolist() == [0, 0, 0]
    for offset, size, stride in [
        (2, (3,), (1,)),
        (0, (2,), (4,)),
        (0, (5,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (2**30, (1,), (1,)),
        (0, (2**30, 2**30), (0, 0)),
        (0, (2, 2), (1,)),
    ]:
        with pytest.raises(Unreadable):
            read_file(raw(path, tensor(offset, size, stride)))
    with pytest.raises(Unreadable):  # says that there are more numbers than the file has
        read_file(raw(path, tensor(0, (400,), (1,), count=400)))
    with pytest.raises(Unreadable):
        read_file(raw(path, tensor(0, (1,), (1,), key=b"1")))


DTYPE = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ"
    b"\xff\xff\xff\xffK?tb"
)  # a dtype of objects, that is of pointers, with a state


@pytest.mark.parametrize(
    "parts",
    [
        (DTYPE,),
        (
            b"cnumpy.core.multiarray\nscalar\n",
            DTYPE,
            b"c_codecs\nencode\n(X\x08\x00\x00\x00AAAAAAAAX\x06\x00\x00\x00latin1tR",
            b"\x86R",
        ),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85tR(K\x01K\x01\x85",
            DTYPE,
            b"\x88]tb",
        ),
    ],
    ids=["dtype", "scalar", "array"],
)
def test_bytes_of_a_file_never_become_pointers(tmp_path, parts):
    found, unread = read_file(raw(tmp_path / "x.pt", *parts))
    assert isinstance(found, Opaque) and unread


@pytest.mark.parametrize(
    "parts",
    [
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__K\x01sb",
        ),  # state of a function
        (b"cbuiltins\nset\n}X\x01\x00\x00\x00aK\x01sb",),
        (b"]K\x01\x85R",),
        (b"K\x01)R",),
        (b"X\x01\x00\x00\x00a)R",),  # calls of plain values
        (tensor(0, (1,), (1,)), b"K\x00K\x05s"),  # items of a tensor
        (b"K\x01Q",),
        (b"(K\x01tQ",),
        (b"r\xff\xff\xff\x7f",),
        (b"h\x05",),
        (b"\x8a\xffaa",),
        (b"X\xff\xff\xff\x7fa",),
        (b"(" * 50,),
        (b"0",),
        (b"",),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",),
        (b"C\xff",),
        (b"i" + b"os\nsystem\n",),
        (b"\x82\x01",),
        (b"P1\n",),
    ],
    ids=range(20),
)
def test_malformed_pickles_are_unreadable(tmp_path, parts):
    with pytest.raises(Unreadable):
        read_file(raw(tmp_path / "x.pt", *parts))


def test_damaged_and_foreign_files_are_unreadable(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": NUMBERS}, path)
    good, some = path.read_bytes(), NUMBERS.numpy().tobytes()
    torch.save({"a": NUMBERS}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()
    bad = [
        good[: len(good) // 2],
        good[100:],
        good.replace(some, some[::-1]),
        old[:-9],
        old[:40],
        b"",
        b"x" * 100,
        b"PK\x03\x04",
        pickle.dumps([1]),
        pickle.dumps(backbone.ROOT),
    ]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(Unreadable):
            read_file(str(path))
    with pytest.raises(Unreadable):
        read_file(deflated(path))
    with pytest.raises(FileNotFoundError):
        read_file(str(tmp_path / "none.pt"))


def test_deeply_nested_lists_are_unreadable_not_a_crash(tmp_path):
    with pytest.raises(Unreadable):
        read_file(raw(tmp_path / "x.pt", b"]" * 200_000 + b"a" * 199_999))


def deflated(path: Path) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + b"N" * 10_000_000 + b".")
    return str(path)


BOMBS = {  # small files that would take hours or gigabytes if they were believed
    "bytearray of the file's choice": b"\x96" + struct.pack("<Q", 2 << 30) + b"0}",
    "bytes of the file's choice": b"\x8e" + struct.pack("<Q", 2 << 40) + b"0}",
    "tuple that doubles as a key": b"K\x01"
    + b"2\x86" * 60
    + b"}"
    + b"q\x00"
    + b"0"
    + b"h\x00"
    + b"K\x01"
    + b"2\x86" * 60
    + b"K\x01s",
    "set of tuples that double": b"\x8f(" + b"K\x01" + b"2\x86" * 60 + b"\x90",
    "frozenset of such": b"(" + b"K\x01" + b"2\x86" * 60 + b"\x91",
    "text copied again and again": b"X"
    + struct.pack("<I", 9000)
    + b"a" * 9000
    + b"q\x000]"
    + b"c_codecs\nencode\nh\x00\x85Ra" * 600,
    "name of a number that doubles": b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
    + b"K\x01"
    + b"2\x86" * 60
    + b"\x85RU\x01a\x86R",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_small_files_take_little_time_and_memory(tmp_path, kind):
    path = raw(tmp_path / "x.pt", BOMBS[kind])
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(Unreadable):
        read_file(path)
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_an_expanded_tensor_takes_no_more_than_some_megabytes(tmp_path):
    with pytest.raises(Unreadable):
        read_file(raw(tmp_path / "x.pt", tensor(0, (2**29,), (0,))))


def test_no_module_of_torch_is_imported_for_a_name(tmp_path):
    before = set(sys.modules)
    read_file(raw(tmp_path / "x.pt", b"ctorch\nonnx\n0ctorch\n_inductor\n0}"))
    assert set(sys.modules) == before


def test_conjugated_tensors_are_refused(tmp_path):
    torch.save({"a": torch.tensor([1 + 2j]).conj()}, tmp_path / "x.pt")
    with pytest.raises(Unreadable):
        read_file(str(tmp_path / "x.pt"))


class Writer(torch.nn.Module):
    """A TorchScript module that fills a file with the letter A when it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.mapped = path, torch.zeros(4, dtype=torch.uint8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path, self.training = state[0], state[1]
        self.mapped = torch.from_file(state[0], True, 4, dtype=torch.uint8)
        self.mapped.fill_(65)


@pytest.fixture(scope="module")
def attack(tmp_path_factory):
    """An archive of a whole CLIP that writes to the file beside it when it is run."""
    folder = tmp_path_factory.mktemp("attack")
    victim = folder / "victim"
    victim.write_text("mine")
    model = nested({}, vit_weights(**TINY))
    model.writer = Writer(str(victim))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(model).save(folder / "archive.pt")
    victim.write_text("mine")
    return folder / "archive.pt", victim


def test_an_archive_is_read_and_not_run(attack, tmp_path):
    path, victim = attack
    torch.save(vit_weights(**TINY), tmp_path / "clip.pt")
    expected = load_backbone(str(tmp_path / "clip.pt")).encode_images(images(2, 32))
    assert torch.equal(load_backbone(str(path)).encode_images(images(2, 32)), expected)
    assert victim.read_text() == "mine"
    torch.jit.load(path)
    assert victim.read_text() == "AAAA"  # the archive does attack
    victim.write_text("mine")


def test_only_openai_s_files_are_run_and_by_their_content(attack, monkeypatch):
    path, victim = attack
    url = f"https://example.org/{backbone._sha256(str(path))}/x.pt"
    monkeypatch.setitem(clip.clip._MODELS, "x", url)
    load_backbone(str(path))
    assert victim.read_text() == "AAAA"
    victim.write_text("mine")
    assert len(next(iter(backbone.clip.clip._MODELS.values())).split("/")[-2]) == 64


def test_openai_checksums_are_those_of_clip():
    assert len(backbone._openai()) == len(clip.available_models())
    assert all(len(one) == 64 and int(one, 16) for one in backbone._openai())


# The same through every door


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run whose files an attacker may change, and how to train on."""
    folder = tmp_path_factory.mktemp("doors")
    trainer = make_trainer(folder, "CraftCoOp", "TRAIN.CHECKPOINT_FREQ", 1)
    trainer.train()
    return folder


@pytest.fixture
def run(home, tmp_path):
    """A copy of it, its configuration as a file, and a marker that must not appear."""
    shutil.copytree(home, tmp_path / "home")
    folder = tmp_path / "home"
    cfg = make_cfg(folder, "CraftCoOp", "TRAIN.CHECKPOINT_FREQ", 1)
    (folder / "run.yaml").write_text(yaml.safe_dump(cfg_to_dict(cfg)))
    results = folder / "output/results.json"
    results.write_text(results.read_text().replace(str(home), str(folder)))
    return folder


def poisoned(path: Path, marker: Path) -> None:
    """Put a call that makes `marker` beside the weights in a file."""
    content = torch.load(path, weights_only=False)
    torch.save({**content, "more": bombs(marker)["open"]}, path)


def start(folder: Path, *more: str) -> int:
    return train.main(
        train.parse_args(
            [
                "--config-file",
                str(folder / "run.yaml"),
                "--output-dir",
                str(folder / "again"),
                *map(str, more),
            ]
        )
    )


CHECKPOINT = "output/prompt_learner/model.pth.tar-2"


def doors(folder: Path) -> dict:
    picture = next((folder / "data").rglob("*.png"))
    run = ["--model-dir", str(folder / "output")]
    out = ["--out", str(folder / "made")]
    return {
        "test": lambda: start(folder, "--eval-only", *run, "--load-epoch", "2"),
        "resume": lambda: start(folder, "--resume", folder / "output", "OPTIM.MAX_EPOCH", "2"),
        "init": lambda: start(folder, "MODEL.INIT_WEIGHTS", folder / CHECKPOINT),
        "predict": lambda: predict.main([*run, str(picture)]),
        "export": lambda: export.main([str(folder / "prompts.safetensors"), *run]),
        "interpret": lambda: interpret.main([*run]),
        "figures": lambda: figures.main(
            ["predictions", str(folder / "output"), str(folder / "output"), *out]
        ),
    }


@pytest.mark.parametrize("door", ["test", "resume", "init", "predict", "export", "interpret"])
def test_a_checkpoint_cannot_attack_through(run, door):
    marker = run / "marker"
    poisoned(run / CHECKPOINT, marker)
    assert doors(run)[door]() in (0, 2)
    assert not marker.exists()


@pytest.mark.parametrize("door", ["test", "init", "predict", "export", "interpret", "figures"])
def test_a_backbone_cannot_attack_through(run, attack, door, capsys):
    path, victim = attack
    for file in (run / "output/results.json", run / "run.yaml"):
        file.write_text(file.read_text().replace(str(run / "clip.pt"), str(path)))
    assert str(path) in (run / "run.yaml").read_text()
    doors(run)[door]()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("folder", [".anchors", ".views"])
def test_a_planted_cache_file_cannot_attack(run, folder):
    options = ("TRAINER.CACHED_VIEWS", 2) if folder == ".views" else ()
    make_trainer(run, "CraftCoOp", "OUTPUT_DIR", str(run / "first"), *options).train()
    files = list(run.rglob(f"{folder}/*.pt"))
    assert files
    for file in files:
        poisoned(file, run / "marker")
    make_trainer(run, "CraftCoOp", "OUTPUT_DIR", str(run / "second"), *options).train()
    assert not (run / "marker").exists()


def test_nothing_native_is_allowed_to_torch_load():
    """A checkpoint must not gain rights from this project's import, in whatever program it is."""
    names = {one.__module__ for one in torch.serialization.get_safe_globals()}
    assert not [name for name in names if name.startswith(("numpy", "torch.optim", "dassl"))]
