import os
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("HERE", None)  # scripts/test.sh tells tools where its caller is


# Files that take minutes start first: with `--dist loadfile` one that starts last keeps one worker
# busy alone.
LONGEST_FIRST = (
    "test_scripts",
    "test_sweep",
    "test_distributed",
    "test_interrupted",
    "test_group_sets",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))  # stable


def pytest_addoption(parser):
    parser.addoption("--gpu", action="store_true", help="let tests see the GPU, for test_gpu.py")


def pytest_configure(config):
    if not config.getoption("--gpu"):  # other tests compare with what a CPU computes
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    config.addinivalue_line("markers", "slow: takes more than some seconds (run in CI too)")
    torch.set_num_threads(
        1
        # Models are so small here that threads cost more than they bring.
    )


@pytest.fixture(autouse=True)
def _no_log_left_open():
    """A test that set up a log must not leave stdout wrapped for the next one."""
    yield
    from dassl.utils.logger import _restore

    _restore()


@pytest.fixture()
def forks(monkeypatch):
    """The workers of a sweep are forked."""
    import forked  # seconds of imports, which few tests need

    forked.workers(monkeypatch)


@pytest.fixture(autouse=True)
def _stay_here():
    """A sweep goes to the repository's folder."""
    here = os.getcwd()
    yield
    os.chdir(here)
