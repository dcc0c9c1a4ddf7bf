"""What the machine has: Python, torch, GPUs, CLIP files, data sets, disk, memory.

Only looked at, not run; `tools.doctor.trial` runs the real thing. torch is imported where it is
needed: its absence is one of the findings.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from tools import launchers
from tools.configs import ROOT
from tools.doctor.lines import Line, fault, first_line, note, ok

GIB = 2**30
# GiB below which a run is likely to fail (fault), or some are (note)
OUTPUT_NEEDS, OUTPUT_LIKES = 1.0, 10.0  # checkpoints of a sweep
TEMPORARY_NEEDS = 0.25
MEMORY_NEEDS, MEMORY_LIKES = 2.0, 6.0  # ViT-B/16 in float32 with torch, and a step on a CPU
GPU_NEEDS = 1.0
SHARED_LIKES = 0.5  # batches of 100 pictures that four workers hand over
TRIAL_BYTES = 2**20  # written into a folder to see whether it takes files
DEVELOPMENT = re.compile(r"pytest|ruff|mypy|mkdocs|types-")  # no run needs these packages
INSTALL_TORCH = "install a build of torch for it (https://pytorch.org/get-started/locally)"
QUERY = ("name", "driver_version", "memory.total", "memory.free")  # of nvidia-smi; MiB


# Programs


def python() -> Iterator[Line]:
    """Version of Python, and the packages of requirements.txt."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^requires-python = "(.*)"', project, re.M)
    wanted = match[1] if match else ""
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield ok("Python", f"{version} ({sys.executable})", version=version)
    else:
        remedy = f"make the environment with a Python {wanted}"
        yield fault("Python", f"{version} is not {wanted}", remedy, version=version)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    wrong, versions = {}, {}
    for package in needed:
        try:
            versions[package.name] = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            wrong[package.name] = f"{package.name} is missing"
            continue
        if not package.specifier.contains(versions[package.name], prereleases=True):
            wrong[package.name] = (
                f"{package.name} is {versions[package.name]}, not {package.specifier}"
            )
    said = "; ".join(wrong.values())
    remedy = f"run `{Path(sys.executable).name} -m pip install -r requirements.txt`"
    if not wrong:
        yield ok("packages", f"all {len(needed)} of requirements.txt", versions=versions)
    elif all(DEVELOPMENT.match(name) for name in wrong):
        yield note("packages", f"{said} (for tests only)", remedy, versions=versions)
    else:
        yield fault("packages", said, remedy, versions=versions)


def torch_build() -> Iterator[Line]:
    """Version, threads and build of torch."""
    import torch

    built = torch.version.cuda or torch.version.hip
    build = f"built for {'CUDA' if torch.version.cuda else 'ROCm'} {built}" if built else "CPU only"
    threads, cores = torch.get_num_threads(), launchers.cores()
    yield ok(
        "torch",
        f"{torch.__version__}, {build}; {threads} threads on {cores} cores",
        version=torch.__version__,
        cuda=torch.version.cuda,
        threads=threads,
        cores=cores,
    )


# GPUs


def nvidia_smi() -> list[dict[str, str]]:
    """What nvidia-smi tells of each GPU, by QUERY; [] without the program or its driver."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]
    return [dict(zip(QUERY, row, strict=True)) for row in rows if len(row) == len(QUERY)]


def gpus() -> Iterator[Line]:
    """CUDA, driver, and of each GPU whether it computes, and its memory."""
    import torch

    seen = nvidia_smi()
    driver = seen[0]["driver_version"] if seen else ""
    if not torch.cuda.is_available():
        yield _no_cuda(torch, seen, driver)
        return
    count = torch.cuda.device_count()
    if driver:
        yield ok("driver", driver, version=driver)
    else:
        yield note("driver", "nvidia-smi tells nothing, so its version is not known")
    built = torch.version.cuda or torch.version.hip
    yield ok("CUDA", f"{built}, {count} GPU{'s' if count > 1 else ''}", gpus=count)
    for number in range(count):
        yield _gpu(torch, number)


def _no_cuda(torch, seen: list[dict[str, str]], driver: str) -> Line:
    """Why torch finds no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not seen:
        return note(
            "CUDA",
            "no NVIDIA GPU is in sight, so runs use the CPU",
            "give the published configs PREC amp or fp32, since fp16 needs a GPU",
            gpus=0,
        )
    what = f"there is a {seen[0]['name']}, driver {driver}"
    if visible is not None and visible.strip() in ("", "-1"):
        return note(
            "CUDA",
            f"{what}, but CUDA_VISIBLE_DEVICES is '{visible}' and hides it",
            "unset that variable to use it",
            gpus=0,
        )
    if not torch.version.cuda:
        said = f"{what}, but torch {torch.__version__} is built without CUDA"
        return fault("CUDA", said, INSTALL_TORCH, gpus=0)
    return fault(
        "CUDA",
        f"{what}, but torch, built for CUDA {torch.version.cuda}, finds no device",
        "update the driver, install a torch built for an older CUDA, or, in a container, pass the "
        "GPU on (--gpus all)",
        gpus=0,
    )


def _gpu(torch, number: int) -> Line:
    """Whether a GPU multiplies matrices as the CPU does, and the memory that is free there."""
    check, name = f"GPU {number}", f"number {number}"
    try:
        name = torch.cuda.get_device_name(number)
        major, minor = torch.cuda.get_device_capability(number)
        a = torch.arange(64 * 64, dtype=torch.float32).reshape(64, 64).sin()
        there = (a.to(f"cuda:{number}") @ a.to(f"cuda:{number}")).cpu()
        free, total = (value / GIB for value in torch.cuda.mem_get_info(number))
    except RuntimeError as error:  # "no kernel image is available", "out of memory", ...
        return fault(check, f"{name} does not compute ({first_line(error)})", INSTALL_TORCH)
    said = f"{name}, compute capability {major}.{minor}, {free:.1f} of {total:.1f} GiB free"
    numbers = {"name": name, "free_gib": round(free, 2), "total_gib": round(total, 2)}
    if not torch.allclose(there, a @ a, rtol=1e-2, atol=1e-2):  # TF32 is as coarse as that
        remedy = "take another GPU, and have this one looked at"
        return fault(check, f"{said}, multiplies matrices wrongly", remedy, **numbers)
    remedy = "end the programs that `nvidia-smi` shows, or choose another with CUDA_VISIBLE_DEVICES"
    if free < GPU_NEEDS:
        return fault(check, f"{said}: too little for a run", remedy, **numbers)
    if free < total / 2:
        return note(check, f"{said}, as other programs use it", remedy, **numbers)
    return ok(check, said, **numbers)


# Files


def clip_files() -> Iterator[Line]:
    """OpenAI's CLIPs that are there, with their checksums, and the bundled one."""
    from trainers.backbone import CACHE, clip, load_backbone, openai_files

    found = openai_files()
    for name, (path, whole) in found.items():
        size = os.path.getsize(path)
        if whole:
            yield ok("CLIP", f"{name}, SHA-256 as OpenAI's ({path})", path=path, bytes=size)
        else:
            yield fault(
                "CLIP",
                f"'{path}' ({size:,} bytes) has another SHA-256 than OpenAI's {name}: it is cut "
                "off or damaged",
                "delete it, and the next run fetches it again",
                path=path,
                bytes=size,
            )
    if not found:
        url = clip.clip._MODELS["ViT-B/16"]
        yield note(
            "CLIP",
            f"none of OpenAI's files is in '{os.path.expanduser(CACHE)}'",
            f"a run fetches what it needs; without network put {url} there",
        )
    for bundled in sorted((ROOT / "assets").glob("*.pt")):
        backbone = load_backbone(str(bundled))  # raises UserError for a damaged file
        pixels = backbone.input_resolution
        said = f"{bundled.relative_to(ROOT)}, bundled, for pictures of {pixels} pixels"
        yield ok("CLIP", said, path=str(bundled.relative_to(ROOT)))


def data_sets(root: str, asked: bool, names: Sequence[str]) -> Iterator[Line]:
    """Data sets below `root`, as datasets.check judges them.

    asked: whether the user named that folder. names: of data sets that have to be there. Raises
    UserError for an unknown name.
    """
    from tqdm import tqdm

    from datasets import check, prepare

    named = {prepare.find(name) for name in names}
    if not os.path.isdir(root):
        said, remedy = f"'{root}' is no folder", f"`python -m datasets.prepare NAME --root {root}`"
        if asked or named:
            yield fault("data", said, f"correct --root, or prepare a data set with {remedy}")
        else:
            yield note("data", f"{said} yet", f"{remedy} makes it")
        return
    classes = list(prepare.prepared_classes().values())
    present = [kind for kind in classes if (Path(root) / kind.folder).is_dir() or kind in named]
    bar = tqdm(present, "data sets", leave=False, disable=None, mininterval=1)
    for report in (check.examine(kind, root, progress=False) for kind in bar):
        numbers = {"images": report.found, "split": report.split}
        if not report.problems:
            said = f"{report.name}: {report.found:,} images, {report.classes} classes"
            yield ok("data", said, **numbers)
        for problem in report.problems:
            said, _, remedy = problem.rpartition(": ")
            yield fault("data", f"{report.name}: {said or problem}", remedy, **numbers)
    if not present:
        yield note(
            "data",
            f"none of {len(classes)} known data sets is in '{root}'",
            f"`python -m datasets.prepare NAME --root {root}` makes one ready",
        )
    elif len(present) < len(classes):
        said = f"{len(classes) - len(present)} more data sets are known and absent"
        yield note("data", said, f"`python -m datasets.check --root {root}` lists them")


def disk(output: str, root: str) -> Iterator[Line]:
    """Space and rights where runs write: the output folder, temporary files, the data sets."""
    for what, folder, needs, likes in (
        ("output", output, OUTPUT_NEEDS, OUTPUT_LIKES),
        ("temporary", tempfile.gettempdir(), TEMPORARY_NEEDS, TEMPORARY_NEEDS),
        ("data", root, 0.0, 0.0),
    ):
        yield _place(what, folder, needs, likes)


def _place(what: str, folder: str, needs: float, likes: float) -> Line:
    """Whether the disk of a folder has `needs` GiB, better `likes`, and takes a file.

    A folder that does not exist yet is judged by the nearest one above it.
    """
    place = Path(folder).absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    said = f"{what} files: '{folder}'"
    try:
        free = shutil.disk_usage(place).free / GIB
    except OSError as error:
        return fault("disk", f"{said} cannot be read ({error.strerror})", "choose another folder")
    numbers = {"folder": folder, "free_gib": round(free, 2)}
    said = f"{said}, {free:.1f} GiB free"
    elsewhere = {
        "output": "free space, or give runs another --output-dir",
        "temporary": "free space, or set TMPDIR to another folder",
        "data": "correct its rights if data sets are to be prepared there",
    }[what]
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        said = f"{said}, takes no file ({error.strerror})"
        return (note if what == "data" else fault)("disk", said, elsewhere, **numbers)
    if free < needs:
        return fault("disk", f"{said}, less than the {needs:g} GiB of a run", elsewhere, **numbers)
    if free < likes:
        said = f"{said}, less than the {likes:g} GiB that a sweep may fill"
        return note("disk", said, elsewhere, **numbers)
    return ok("disk", said, **numbers)


# Memory


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """GiB that a new program can take, a container's limit included; None where nothing tells."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (proc / "meminfo").read_text().splitlines()
        available = int(next(x for x in lines if x.startswith("MemAvailable")).split()[1]) / 2**20
        with suppress(OSError, ValueError):  # "max" is no number: there is no limit
            limit = int((groups / "memory.max").read_text())
            used = int((groups / "memory.current").read_text())
            available = min(available, (limit - used) / GIB)
        return available
    return None


def memory(shared: str = "/dev/shm") -> Iterator[Line]:
    """Free memory, and the shared memory through which workers hand over batches."""
    free = free_memory()
    if free is None:
        yield note("memory", "not measured: only Linux tells what is free")
    else:
        said, numbers = f"{free:.1f} GiB free", {"free_gib": round(free, 2)}
        remedy = "end other programs, or use a machine with more"
        if free < MEMORY_NEEDS:
            yield fault(
                "memory", f"{said}, less than the {MEMORY_NEEDS:g} GiB of a run", remedy, **numbers
            )
        elif free < MEMORY_LIKES:
            said = f"{said}, less than the {MEMORY_LIKES:g} GiB that large CLIPs take on a CPU"
            yield note("memory", said, remedy, **numbers)
        else:
            yield ok("memory", said, **numbers)
    if not os.path.isdir(shared):
        return
    size = shutil.disk_usage(shared).free / GIB
    said, numbers = f"{size:.2f} GiB free in {shared}", {"shared_gib": round(size, 2)}
    if size < SHARED_LIKES:
        yield note(
            "shared memory",
            f"{said}, through which workers hand over batches",
            "give a container more (--shm-size 8g), or set DATALOADER.NUM_WORKERS 0",
            **numbers,
        )
    else:
        yield ok("shared memory", said, **numbers)
