"""tools.doctor: what each check says of a good and of a bad machine, within its time."""

import errno
import json
import os
import re
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_distributed import forked

from dassl.errors import UserError
from datasets import check
from datasets.sets.dtd import DescribableTextures
from tools import plain_way
from tools.doctor import __main__ as doctor
from tools.doctor import machine, trial, work
from tools.doctor.lines import FAULT, NOTE, OK, WIDTH, fault, guarded, note, ok
from trainers import backbone as backbone_module
from trainers.backbone import Backbone

TINY = (64, 32, 2, 64, 16, 77, 49408, 64, 1, 2)  # arguments of clip.model.CLIP


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(plain_way.SIZES, "test", TINY)


def one(lines):
    (line,) = list(lines)
    return line


# Lines


def test_a_line_says_what_it_is_and_fits():
    text = str(fault("disk", "there is " + "very " * 40 + "little", "free space"))
    first, *others = text.splitlines()
    assert first.startswith("fault  disk           there is very") and others
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert all(line.startswith(" " * 22) for line in others) and text.endswith(": free space")


def test_a_check_that_fails_is_a_fault_and_stops_no_other():
    def fails(error):
        def find():
            yield ok("a", "first")
            raise error

        return list(guarded("a", find))

    for error, said, remedy in (
        (UserError("'x' is damaged: fetch it"), "'x' is damaged", "fetch it"),
        (ImportError("No module named 'torch'"), "No module named 'torch'", "pip install -r"),
        (ValueError("odd\nmore"), "(ValueError: odd)", "report it"),
    ):
        good, bad = fails(error)
        assert (good.status, bad.status) == (OK, FAULT)
        assert said in bad.said and remedy in bad.remedy


# The machine


def test_python_and_packages(monkeypatch):
    assert [line.status for line in machine.python()] == [OK, OK]
    version = machine.metadata.version

    def without(*names, **others):
        def find(name):
            if name in names:
                raise machine.metadata.PackageNotFoundError(name)
            return others.get(name) or version(name)

        monkeypatch.setattr(machine.metadata, "version", find)
        return list(machine.python())[-1]

    line = without("yacs", torch="1.0")
    assert line.status == FAULT and "pip install -r requirements.txt" in line.remedy
    assert line.said == "torch is 1.0, not >=2.4; yacs is missing"
    assert without("ruff").status == NOTE
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.8.1")
    line = next(machine.python())
    assert (line.status, line.said) == (FAULT, "3.8.1 is not >=3.10")
    assert line.remedy == "make the environment with a Python >=3.10"


A100 = {
    "name": "NVIDIA A100",
    "driver_version": "550.1",
    "memory.total": "81920",
    "memory.free": "81000",
}


@pytest.mark.parametrize(
    ("seen", "built", "visible", "status", "said", "remedy"),
    [
        ([], "13.0", None, NOTE, "no NVIDIA GPU is in sight", "PREC amp or fp32"),
        ([A100], None, None, FAULT, "is built without CUDA", "install a build of torch"),
        ([A100], "13.0", None, FAULT, "finds no device", "update the driver"),
        ([A100], "13.0", "", NOTE, "CUDA_VISIBLE_DEVICES is '' and hides it", "unset"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, seen, built, visible, status, said, remedy):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(machine, "nvidia_smi", lambda: seen)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line = one(machine.gpus())
    assert line.status == status and said in line.said and remedy in line.remedy


def test_what_nvidia_smi_prints_is_read(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA A100, 550.1, 81920, 81000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.nvidia_smi() == [A100]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert machine.nvidia_smi() == []


class Here(torch.Tensor):
    """A tensor that stays where it is, and comes back `wrong` by that much."""

    wrong = 0.0

    def to(self, *_):
        return self + self.wrong


def fake_gpus(monkeypatch, free: float, wrong: float = 0.0, error: str = ""):
    """torch.cuda with two GPUs of 80 GiB."""

    def start(size, **_):
        if error:
            raise RuntimeError(error)
        return torch.arange(float(size)).as_subclass(Here)

    monkeypatch.setattr(Here, "wrong", wrong)
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda number: "A100",
        "get_device_capability": lambda number: (8, 0),
        "mem_get_info": lambda number: (int(free * 2**30), 80 * 2**30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(machine, "nvidia_smi", lambda: [A100])
    fake = SimpleNamespace(cuda=torch.cuda, arange=start, float32=None, allclose=torch.allclose)
    return machine._gpu(fake, 1)


def test_a_gpu_computes_and_has_memory(monkeypatch):
    line = fake_gpus(monkeypatch, 78)
    assert (line.check, line.status) == ("GPU 1", OK)
    assert line.said == "A100, compute capability 8.0, 78.0 of 80.0 GiB free"
    assert line.numbers == {"name": "A100", "free_gib": 78, "total_gib": 80}
    assert fake_gpus(monkeypatch, 20).status == NOTE
    line = fake_gpus(monkeypatch, 0.5)
    assert line.status == FAULT and "nvidia-smi" in line.remedy
    line = fake_gpus(monkeypatch, 78, wrong=1.0)
    assert line.status == FAULT and "multiplies matrices wrongly" in line.said
    line = fake_gpus(monkeypatch, 78, error="no kernel image is available\nmore")
    assert line.status == FAULT and "(no kernel image is available)" in line.said
    assert "install a build of torch" in line.remedy


def test_clip_files_are_compared_with_openais_checksums(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine, "ROOT", tmp_path)  # without a bundled one
    line = one(machine.clip_files())
    assert line.status == NOTE and "ViT-B-16.pt" in line.remedy
    assert f"none of OpenAI's files is in '{tmp_path}/.cache/clip'" in line.said
    path = tmp_path / ".cache/clip/ViT-B-16.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    line = one(machine.clip_files())
    assert line.status == FAULT and f"'{path}' (11 bytes)" in line.said
    assert line.remedy == "delete it, and the next run fetches it again"
    good = backbone_module._sha256(path)
    models = {"ViT-B/16": f"https://example.org/{good}/ViT-B-16.pt"}
    monkeypatch.setattr(backbone_module.clip.clip, "_MODELS", models)
    line = one(machine.clip_files())
    assert line.status == OK and line.said.startswith("ViT-B/16, SHA-256 as OpenAI's")


def test_a_damaged_bundled_clip_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/x.pt").write_bytes(b"PK")
    line = list(guarded("CLIP", machine.clip_files))[-1]
    assert line.status == FAULT and "is damaged" in line.said and "fetch it again" in line.remedy
    monkeypatch.undo()
    assert list(machine.clip_files())[-1].status == OK


def test_data_sets(tmp_path, monkeypatch):
    nowhere = str(tmp_path / "none")
    assert one(machine.data_sets(nowhere, True, [])).status == FAULT
    line = one(machine.data_sets(nowhere, False, []))
    assert line.status == NOTE and "datasets.prepare NAME" in line.remedy
    root = str(tmp_path)
    assert one(machine.data_sets(root, True, [])).status == NOTE  # none is there yet
    missing, rest = machine.data_sets(root, True, ["dtd"])
    assert missing.status == FAULT and "DescribableTextures: absent" in missing.said
    assert missing.remedy and rest.status == NOTE
    (tmp_path / DescribableTextures.folder).mkdir()
    broken = next(machine.data_sets(root, True, []))
    assert broken.status == FAULT and "DescribableTextures: " in broken.said
    report = check.Report("DescribableTextures", True, 5640, 5640, "published", "47")
    monkeypatch.setattr(check, "examine", lambda *_, **__: report)
    good, rest = machine.data_sets(root, True, [])
    assert (good.status, good.said) == (OK, "DescribableTextures: 5,640 images, 47 classes")
    with pytest.raises(UserError, match="unknown data set 'dtt'"):
        list(machine.data_sets(root, True, ["dtt"]))


def test_disk(tmp_path, monkeypatch):
    def with_free(gib):
        usage = SimpleNamespace(free=int(gib * 2**30))
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: usage)
        return [line.status for line in machine.disk(str(tmp_path / "out"), str(tmp_path))]

    assert with_free(50) == [OK, OK, OK]
    assert with_free(5) == [NOTE, OK, OK]
    assert with_free(0.1) == [FAULT, FAULT, OK]
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())

    def full(dir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert with_free(50) == [FAULT, FAULT, NOTE]  # data sets need no writing
    line = next(machine.disk(str(tmp_path), str(tmp_path)))
    assert "takes no file (No space left on device)" in line.said and "--output-dir" in line.remedy


def test_memory(tmp_path, monkeypatch):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    for folder in (proc, groups):
        folder.mkdir()
    assert machine.free_memory(proc, groups) is None
    (proc / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 16777216 kB\n")
    (groups / "memory.max").write_text("max\n")
    assert machine.free_memory(proc, groups) == 16
    (groups / "memory.max").write_text(f"{3 * 2**30}\n")
    (groups / "memory.current").write_text(f"{2**30}\n")
    assert machine.free_memory(proc, groups) == 2
    for free, status in ((16, OK), (4, NOTE), (1, FAULT), (None, NOTE)):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: free)
        assert one(machine.memory(shared=str(tmp_path / "none"))).status == status
    for gib, status in ((8, OK), (0.06, NOTE)):
        usage = SimpleNamespace(free=int(gib * 2**30))
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda place, usage=usage: usage)
        assert list(machine.memory(shared=str(tmp_path)))[-1].status == status


# The real thing, in this process


def test_precisions_against_fp32():
    found = {row["precision"]: row for row in work.precisions("cpu", "random:test")}
    assert found["fp32"]["difference"] == 0 and found["fp32"]["same_first"] == 1
    assert found["fp16"]["skipped"] == "it needs a GPU"
    assert 0 < found["amp"]["difference"] < trial.TOLERANCES["amp"]
    lines = {row["precision"]: trial._precision_line(row) for row in found.values()}
    assert (lines["fp32"].status, lines["fp16"].status, lines["amp"].status) == (OK, NOTE, OK)


def test_a_precision_that_fails_or_is_far_off_is_a_fault(monkeypatch):
    def refuses(*_):
        raise RuntimeError("not implemented for 'Half'\nmore")

    monkeypatch.setattr(work, "logits_and_time", refuses)
    row = next(work.precisions("cpu", "random:test", ("fp32",)))
    line = trial._precision_line(row)
    assert line.status == FAULT and "(RuntimeError: not implemented for 'Half')" in line.said
    base = {"kind": "precision", "precision": "amp", "clip": "x", "seconds": 1.0}
    far = base | {"difference": 0.2, "same_first": 0.5}
    assert trial._precision_line(far).status == FAULT
    assert trial._precision_line(far | {"difference": 0.01}).status == OK
    logits = torch.tensor([[1.0, torch.nan]])
    broken = base | work.compared(logits, torch.ones(1, 2))
    assert json.loads(json.dumps(broken))["difference"] is None
    assert "not finite" in trial._precision_line(broken).said


def test_a_step_of_every_structure_with_time_and_memory():
    rows = list(work.steps("cpu", "test", (3, 2)))
    assert [(row["structure"], row["classes"]) for row in rows] == [
        (method, number) for number in (2, 3) for method in plain_way.METHODS
    ]
    for row in rows:
        assert row["ours_s"] > 0 and row["plain_s"] > 0, row
        assert not plain_way.too_far(row["result"], row["gradient"]), row
        assert trial._step_line(row).status == OK
    if sys.platform == "linux":
        assert all(row["ours_mib"] >= 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
def test_peak_memory_is_that_of_the_worst_moment():
    def run():
        large = torch.ones(2**24)  # 64 MiB
        return large.sum() + torch.ones(2**20).sum()

    for _ in range(2):  # the second time, freed memory does not hide it
        assert 60 < plain_way.peak_memory(run, torch.device("cpu")) < 80


def test_a_step_that_differs_or_lacks_memory(monkeypatch):
    bench = plain_way.Bench(plain_way.Towers(TINY, "cpu"), "CoOp", 3)

    def no_memory():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    bench.plain_train = no_memory
    row = {"kind": "step", "structure": "CoOp", "classes": 3} | work.step(bench, 10.0)
    line = trial._step_line(row)
    assert line.status == OK and "no memory" in line.said and row["plain_s"] is None
    monkeypatch.setattr(work, "step", lambda *_: no_memory())
    row = next(work.steps("cpu", "test", (2,), ["VPT"]))
    line = trial._step_line(row)
    assert line.status == FAULT and "OutOfMemoryError: CUDA out of memory" in line.said
    assert "TEXT_CHECKPOINTING" in line.remedy
    row |= {"batch": 4, "ours_s": 1.0, "plain_s": 2.0, "ours_mib": 1.0, "plain_mib": None}
    del row["failed"]
    assert trial._step_line(row | {"result": 1e-3, "gradient": 0.0}).status == FAULT
    assert trial._step_line(row | {"result": float("nan"), "gradient": 0.0}).status == FAULT
    assert " 2.00" in trial._step_line(row | {"result": 1e-6, "gradient": 1e-6}).said


def test_compiled_blocks_are_compared_with_others(monkeypatch):
    monkeypatch.setattr(Backbone, "compile_blocks", lambda self: None)
    row = next(work.compiled("cpu", "test"))
    assert row["result"] == 0 and row["first_s"] > 0 and row["compiled_s"] > 0

    def results(found):
        def results_of(name, options, seconds):
            assert name == "compiled" and 0 < seconds <= 50
            if isinstance(found, Exception):
                raise found
            yield found

        monkeypatch.setattr(trial, "results_of", results_of)
        return one(trial.compile_blocks("cpu", trial.Budget(50)))

    assert results(row).status == OK
    assert results(row | {"result": 0.1}).status == FAULT
    line = results(trial.Died("InvalidCxxCompiler: none"))
    assert line.status == NOTE and line.remedy == "leave TRAINER.COMPILE False"
    assert "not measured" in results(trial.TimeUp()).said


def shared_step(folder: str) -> int:
    plain_way.SIZES["test"] = TINY
    rows = list(work.shared("cpu", "test"))
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(rows))
    return 0


def test_two_processes_have_the_gradient_of_one(tmp_path):
    codes, errors = forked(tmp_path, shared_step, str(tmp_path))
    assert codes == [0, 0], errors
    (row,) = json.loads((tmp_path / "0.json").read_text())
    assert (row["backend"], row["processes"]) == ("gloo", 2) and row["gradient"] < 1e-5


def test_what_two_processes_find(monkeypatch):
    row = {"kind": "shared", "backend": "gloo", "processes": 2, "seconds": 1.0, "gradient": 1e-7}

    def lines(found, gpus=0):
        def results_of(name, options, seconds, processes):
            assert (name, processes) == ("shared", 2)
            if isinstance(found, Exception):
                raise found
            yield from found

        monkeypatch.setattr(trial, "results_of", results_of)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        return [(line.check, line.status) for line in trial.processes("auto", trial.Budget(50))]

    assert lines([row]) == [("gloo", OK), ("NCCL", NOTE)]
    assert lines([row], gpus=2) == [("gloo", OK), ("NCCL", OK)]
    assert lines([row | {"gradient": 0.5}], gpus=1) == [("gloo", FAULT), ("NCCL", NOTE)]
    assert lines(trial.Died("RuntimeError: no route"))[0] == ("gloo", FAULT)
    assert lines([])[0] == ("gloo", FAULT)
    assert lines(trial.TimeUp())[0] == ("gloo", NOTE)


# The bound of time, and processes that die


def test_without_time_nothing_is_begun_and_all_is_named(monkeypatch):
    monkeypatch.setattr(trial, "results_of", None)  # a call would fail
    budget = trial.Budget(0)
    parts = [*trial.measured("cpu", budget), *trial.processes("cpu", budget)]
    parts += trial.compile_blocks("cpu", budget)
    notes = [line for line in parts if "not measured, as the 0 seconds are used up" in line.said]
    assert [line.check for line in notes] == ["measurements", "gloo", "torch.compile"]
    assert all(line.status == NOTE and "--seconds" in line.remedy for line in notes)
    left = notes[0].numbers["left"]
    assert len(left) == len(work.PRECISIONS) + 12 and left[-1] == "step of PromptSRC at 200 classes"


def test_what_is_left_when_time_is_up_or_the_process_dies_is_named(monkeypatch):
    first = {"kind": "precision", "precision": "fp32", "skipped": "x"}

    def lines(error):
        def results_of(name, options, seconds):
            assert options["classes"] == (50, 200) and seconds <= 0.6 * 100
            yield first
            raise error

        monkeypatch.setattr(trial, "results_of", results_of)
        return list(trial.measured("cpu", trial.Budget(100)))

    *_, last = lines(trial.TimeUp())
    assert last.status == NOTE and last.numbers["left"][0] == f"precision {work.PRECISIONS[1]}"
    *_, last = lines(trial.Died("it was killed, as a rule for want of memory"))
    assert last.status == FAULT and f"precision {work.PRECISIONS[1]} failed (it was" in last.said
    assert last.remedy == "end other programs, or use a machine with more memory"


FAKE = """
    import json, os, subprocess, sys, time
    print("not a result")
    print("@doctor " + json.dumps({"kind": "x", "words": sys.argv[1:]}), flush=True)
    %s
"""


@pytest.mark.parametrize(
    ("then", "error", "said"),
    [
        ("subprocess.Popen(['sleep', '99']); time.sleep(99)", trial.TimeUp, ""),
        ("raise ValueError('odd')", trial.Died, "ValueError: odd"),
        ("os.kill(os.getpid(), 9)", trial.Died, "it was killed, as a rule for want of memory"),
        ("os.abort()", trial.Died, "it crashed: Aborted"),
        ("sys.exit(3)", trial.Died, "exit code 3"),
    ],
)
def test_a_part_is_a_process_that_is_ended_in_time(tmp_path, monkeypatch, then, error, said):
    (tmp_path / "tools/doctor").mkdir(parents=True)
    (tmp_path / "tools/doctor/work.py").write_text(textwrap.dedent(FAKE) % then)
    monkeypatch.setattr(trial, "ROOT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    start, rows = time.monotonic(), []
    with pytest.raises(error) as caught:
        for row in trial.results_of("measure", {"a": 1}, 2 if error is trial.TimeUp else 30):
            rows.append(row)
    assert rows == [{"kind": "x", "words": ["measure", '{"a": 1}']}]
    assert said in str(caught.value) and time.monotonic() - start < 25


def test_the_reason_of_several_processes_is_not_torchruns_own():
    text = (
        "[rank0]: Traceback (most recent call last):\n"
        '[rank0]:   File "x.py", line 1, in <module>\n'
        "[rank0]: RuntimeError: connection refused\n"
        "E1126 torch/distributed/elastic: failed\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    )
    with tempfile.TemporaryFile("w+") as file:
        file.write(text)
        assert trial._reason(1, file) == "RuntimeError: connection refused"


# The whole


def gpu_lines(free: float, device: str = "cuda"):
    """Steps of two structures whose memory is 100 MiB + 4 (or 1) MiB a class, CLIP's 324 MiB."""
    lines = [ok("GPU 0", "a GPU", free_gib=free)]
    for name, slope in (("CoOp", 4), ("VPT", 1)):
        for classes in (50, 200):
            lines.append(
                ok(
                    "step",
                    name,
                    structure=name,
                    classes=classes,
                    device=device,
                    ours_mib=100.0 + slope * classes,
                    weights_mib=324.0,
                )
            )
    return lines


def test_the_verdict():
    assert trial.imagenet_memory(gpu_lines(78)) == ("CoOp", (324 + 100 + 4000) / 1024)
    assert doctor.verdict(gpu_lines(78)) == (
        "ready; 16-shot ImageNet needs about 4.3 GiB with CoOp, the largest, in fp32, you have "
        "78.0 (a line through 50 and 200 classes, at 1,000)"
    )
    assert doctor.verdict(gpu_lines(3)).startswith("ready, but not for ImageNet; 16-shot")
    assert "not measured" in doctor.verdict(gpu_lines(78, device="cpu"))
    assert "not measured" in doctor.verdict(gpu_lines(78)[:2])
    bad = [fault("disk", "it is full", "free space"), note("a", "b"), fault("c", "d", "e")]
    assert doctor.verdict(bad) == "not ready: 2 fault(s), first disk: it is full, and 1 more"


def valid(content: dict) -> None:
    """The JSON's schema."""
    assert set(content) == {"version", "finished", "seconds", "ready", "verdict", "lines"}
    assert content["version"] == 1 and isinstance(content["ready"], bool)
    for line in content["lines"]:
        assert set(line) == {"check", "status", "said", "remedy", "numbers"}
        assert line["status"] in (OK, NOTE, FAULT) and isinstance(line["numbers"], dict)
        assert line["remedy"] or line["status"] != FAULT, line


def test_all_checks_are_made_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trial, "results_of", None)  # no process within 0 seconds
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["--seconds", "0", "--json", str(tmp_path / "a/b.json"), "--device", "cpu"]
    arguments += ["--output-dir", str(tmp_path / "out"), "--root", str(tmp_path)]
    code = doctor.main(arguments)
    content = json.loads((tmp_path / "a/b.json").read_text())
    valid(content)
    assert code == int(not content["ready"])
    checks = {line["check"] for line in content["lines"]}
    assert {"Python", "packages", "torch", "CLIP", "data", "disk", "memory"} <= checks
    assert {"trial", "measurements", "gloo", "NCCL", "torch.compile"} <= checks
    out = capsys.readouterr().out
    *lines, last = [line for line in out.splitlines() if line]
    assert last == content["verdict"]
    assert all(re.match(r"(ok|note|fault) +\S| {22}\S", line) for line in lines), out
    assert not (tmp_path / "out").exists()


def test_a_fault_is_exit_code_1_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def fails():
        raise OSError("broken")
        yield

    step = gpu_lines(78)[1]
    made = [("a", fails), ("b", lambda: iter([step])), ("c", lambda: iter([note("c", "d")]))]
    monkeypatch.setattr(doctor, "checks", lambda args, budget: made)
    assert doctor.main(["--json", str(tmp_path / "x.json")]) == 1
    valid(json.loads((tmp_path / "x.json").read_text()))
    out = capsys.readouterr().out
    assert "fault  a              the check itself failed (OSError: broken): mend" in out
    assert out.count("structure  classes") == 1 and out.endswith("(OSError: broken)\n")
    made.pop(0)
    assert doctor.main([]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "{tmp}"], "--json is '{tmp}', a folder: give the name of a file"),
        (["--json", "{tmp}/x.txt"], "give a name that ends in .json"),
        (["--json", "{tmp}/file/x.json"], "x.json' cannot be written (Not a directory): choose"),
        (["--json", "{tmp}/shut/a/x.json"], "x.json' cannot be written (Permission denied)"),
        (["--datasets", "dtt"], "unknown data set 'dtt'"),
    ],
)
def test_mistakes_are_told_before_anything_is_checked(
    tmp_path, monkeypatch, capsys, arguments, message
):
    (tmp_path / "file").touch()
    (tmp_path / "shut").mkdir()
    allowed = os.access  # root may write everywhere
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.name != "shut" and allowed(path, mode)
    )
    monkeypatch.setattr(doctor, "checks", None)
    assert doctor.main([word.format(tmp=tmp_path) for word in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message.format(tmp=tmp_path) in err
