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


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some seconds (run in CI too)")
    torch.set_num_threads(
        1
    )  # models are so small here that threads cost more than they bring, much more on a busy machine


@pytest.fixture(autouse=True)
def _no_log_left_open():
    """A test that set up a log must not leave stdout wrapped for the next one."""
    yield
    from dassl.utils.logger import _restore

    _restore()
