"""What a run says while it goes on: a line an epoch, config.yaml, curves; --help and --list."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_train_cli import arguments, files
from tiny_run import make_trainer

import train
from dassl.config import cfg_to_dict
from dassl.engine import TRAINER_REGISTRY, run_hash
from dassl.utils import UserError
from dassl.utils.tools import atomic_write
from tools import configs, launchers, listing, parse_test_res

ROOT = Path(__file__).resolve().parent.parent
VALIDATED = ("TEST.FINAL_MODEL", "best_val", "TRAIN.PRINT_FREQ", 0)
assert files  # the fixture


def run(*args, **kwargs) -> int:
    """The exit code of train.py with these arguments of `test_train_cli.arguments`."""
    return train.main(train.parse_args(arguments(*args, **kwargs)))


def epochs(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("epoch [")]


# The line of an epoch


def test_one_line_an_epoch_and_those_of_batches_on_request(files, capsys):
    assert run(files) == 0
    found = epochs(capsys.readouterr().out)
    number = r"[\d.e+-]+"
    pattern = rf"epoch \[{{}}/2\] loss {number} acc {number}% time {number} s eta 0:00:\d\d lr {{}}"
    assert len(found) == 2
    for line, epoch, rate in zip(found, (1, 2), ("0.1", number), strict=True):
        assert re.fullmatch(pattern.format(epoch, rate), line), line
    assert run(files, "TRAIN.PRINT_FREQ", "1", out="more") == 0
    found = epochs(capsys.readouterr().out)
    batches = [line for line in found if "batch [" in line]
    assert len(batches) == len(found) - 2 >= 2 and "data" in batches[0]


def test_the_line_of_an_epoch_fits_and_counts_what_it_leaves_out(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "CraftMaPLe", "TRAIN.PRINT_FREQ", 0, "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    (line,) = epochs(capsys.readouterr().out)
    shown = " craft_static .* craft_stochastic .* (lr .* cross_entropy .*|lr .* \\.\\.\\.)$"
    assert len(line) <= 120 and re.search(shown, line), line
    trainer._epoch_means = {f"a_rather_long_name_{i}": 0.5 for i in range(9)}
    line = trainer._epoch_line()
    shown = line.count("a_rather_long_name_")
    assert len(line) <= 120 < len(line) + 24 and 0 < shown < 9 and line.endswith(" 0.5 ...")
    # All of CRAFT's terms of a long run
    trainer.epoch, trainer.max_epoch, trainer._epoch_seconds = 98, 200, 812.3
    trainer._epoch_means = {"loss": 3.391, "acc": 71.25, "cross_entropy": 2.011}
    trainer._epoch_means |= {"craft_static": 1.161, "craft_stochastic": 1.121, "craft_mmd": 0.0123}
    line = trainer._epoch_line()
    assert len(line) <= 120 and " craft_mmd 0.0123" in line, line


def test_means_are_those_of_all_batches(tmp_path, capsys, monkeypatch):
    trainer = make_trainer(tmp_path, "CoOp", "TRAIN.PRINT_FREQ", 0, "OPTIM.MAX_EPOCH", 1)
    losses, step = [], type(trainer).forward_backward

    def watched(self, batch):
        losses.append(step(self, batch))
        return losses[-1]

    monkeypatch.setattr(type(trainer), "forward_backward", watched)
    trainer.train()
    (line,) = epochs(capsys.readouterr().out)
    mean = sum(row["loss"] for row in losses) / len(losses)
    assert len(losses) == 3 and f" loss {mean:.3g} " in line


def test_validation_stands_in_the_line_and_in_tensorboard(tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(tmp_path, "CoOp", *VALIDATED)
    trainer.val_loader = trainer.test_loader
    trainer.train()
    out = capsys.readouterr().out
    curves = EventAccumulator(str(tmp_path / "output/tensorboard")).Reload()
    points = {point.step: point.value for point in curves.Scalars("val/accuracy")}
    assert list(points) == [0, 1]
    for epoch, line in enumerate(epochs(out)):
        assert f" val accuracy {points[epoch]:.3g}" in line and len(line) <= 120
    assert " (best) " in epochs(out)[0]
    assert out.count("=> result") == 1  # of the test; validation is in the lines
    folder = tmp_path / "output/tensorboard"
    assert f"Curves: tensorboard --logdir {folder}\n" in out


def test_with_lines_of_batches_validation_is_printed_as_dassl_does(tmp_path, capsys):
    trainer = make_trainer(tmp_path, "CoOp", "TEST.FINAL_MODEL", "best_val")
    trainer.val_loader = trainer.test_loader
    trainer.train()
    out = capsys.readouterr().out
    assert out.count("=> result") == 3 and out.count("Evaluate on the *val* set") == 2


def test_a_long_epoch_without_a_terminal_is_heard_of(tmp_path, capsys, monkeypatch):
    from dassl.engine import trainer as module

    monkeypatch.setattr(module, "SILENCE_S", -1)
    make_trainer(tmp_path, "CoOp", "TRAIN.PRINT_FREQ", 0, "OPTIM.MAX_EPOCH", 1).train()
    found = epochs(capsys.readouterr().out)
    assert ["batch [1/3]" in found[0], "batch [2/3]" in found[1], len(found)] == [True, True, 3]


def test_what_others_look_for_in_a_log_is_there(files):
    assert run(files) == 0
    log = (files / "out/log.txt").read_text()
    value = parse_test_res.read_log(files / "out/log.txt", "accuracy", "Finish training")
    assert value is not None and f"* accuracy: {value}%" in log
    (files / "out/log.txt").write_text(log[: log.index("Finish training")])
    assert re.fullmatch(r"epoch \[2/2\], 0:00:00 left", launchers.progress_of(files / "out"))


# The configuration


def test_the_configuration_is_a_file_that_makes_the_same_run(files, capsys):
    options = ("DATASET.TEMPLATE", "a 2024 photo: '{}'", "TEST.METRICS", "('top5_accuracy',)")
    args = train.parse_args(arguments(files, *options, "OPTIM.MAX_EPOCH", "1"))
    assert train.main(args) == 0
    out = capsys.readouterr().out
    path = files / "out/config.yaml"
    assert f"Configuration: {path} (all " in out and "PIXEL_MEAN" not in out
    before = out[: out.index("Configuration: ")]
    assert len(before.splitlines()) == 2 and before.startswith("train.py")
    wanted = train.setup_cfg(args)
    found = train.setup_cfg(train.parse_args(["--config-file", str(path)]))
    assert found == wanted and run_hash(found) == run_hash(wanted)
    results = (files / "out/results.json").stat().st_mtime_ns
    again = train.parse_args(["--config-file", str(path), "--skip-done"])
    assert train.main(again) == 0 and "Done already" in capsys.readouterr().out
    assert (files / "out/results.json").stat().st_mtime_ns == results


@pytest.mark.parametrize("trainer", ["CraftPromptSRC", "DFR", "TCP"])
def test_every_value_comes_back_as_it_was(files, trainer):
    words = ("--source-domains", "010", "no", "--", "OPTIM.STEPSIZE", "(3, 5)", "SEED", "7")
    cfg = train.setup_cfg(train.parse_args(arguments(files, *words, trainer=trainer)))
    Path(cfg.OUTPUT_DIR).mkdir()
    train.write_config(cfg)
    path = str(Path(cfg.OUTPUT_DIR) / "config.yaml")
    again = train.setup_cfg(train.parse_args(["--config-file", path]))
    assert cfg_to_dict(again) == cfg_to_dict(cfg) and again == cfg


def test_a_config_of_the_users_own_is_not_overwritten(files, capsys):
    own = files / "out/config.yaml"
    own.parent.mkdir()
    own.write_text("OPTIM: {LR: 0.3}\n")
    assert run(files) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: '{own}' was not written by a run, which would overwrite it: give it another "
        "name, or choose another --output-dir"
    )
    assert own.read_text() == "OPTIM: {LR: 0.3}\n" and not (files / "out/log.txt").exists()
    own.unlink()
    own.mkdir()
    assert run(files) == 2 and "cannot be read (Is a directory)" in capsys.readouterr().err


def test_a_configuration_is_written_whole_or_not_at_all(files, monkeypatch):
    cfg = train.setup_cfg(train.parse_args(arguments(files)))
    Path(cfg.OUTPUT_DIR).mkdir()
    train.write_config(cfg)
    path = Path(cfg.OUTPUT_DIR) / "config.yaml"
    before = path.read_text()
    cfg.defrost()
    cfg.SEED = 5

    def full(name, write):
        def cut(file):
            write(SimpleFull(file))

        atomic_write(name, cut)

    class SimpleFull:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "atomic_write", full)
    with pytest.raises(UserError, match="cannot write .*config.yaml.* No space left|No space left"):
        train.write_config(cfg)
    assert path.read_text() == before and [p.name for p in path.parent.iterdir()] == [path.name]


# --help and --list

WITHOUT_TORCH = """
import runpy, sys
sys.argv = ["train.py", "%s"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    heavy = sorted({"torch", "numpy", "PIL", "datasets", "trainers"} & set(sys.modules))
    sys.exit(f"imported {heavy}" if heavy else end.code)
"""


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_and_list_answer_without_torch(flag):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH % flag], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ("--list" if flag == "--help" else "CraftCoOp") in done.stdout


def test_the_list_names_all_trainers_configs_and_data_sets(capsys):
    assert listing.main(None) == 0
    out = capsys.readouterr().out
    words = set(re.split(r"[\s,]+", out))
    for name in configs.trainers():
        assert name in words, name
        assert set(configs.stems(f"trainers/{name}")) <= words
    assert {*configs.presets(), *configs.stems("datasets")} <= words
    assert all(len(line) <= 120 for line in out.splitlines())
    assert {name for name in words if name.startswith("Craft")} <= set(
        TRAINER_REGISTRY.registered_names()
    )


def test_the_list_tells_what_is_below_the_root(tmp_path, capsys):
    (tmp_path / "dtd").mkdir()
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/split_zhou_EuroSAT.json").write_text("{}")
    assert listing.main(str(tmp_path)) == 0
    out = capsys.readouterr().out
    there, absent = out[out.index("  there ") :].split("  absent ")
    assert "dtd (without split_zhou_DescribableTextures.json" in there
    assert re.search(r"eurosat(,|\s*$)", there) and "caltech101" in absent
    assert listing.main(str(tmp_path / "none")) == 2
    assert "no folder: correct it" in capsys.readouterr().err
