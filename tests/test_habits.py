"""The tools that read the code are content with it, and what describes the project says the same
everywhere.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def output_of(*command: str) -> str:
    """What a tool prints; "" if its exit code is 0."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return (done.stdout + done.stderr) if done.returncode else ""


def ruff() -> str:
    path = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if not path:
        pytest.skip("ruff is not installed")
    return path


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_is_content(command):
    assert output_of(ruff(), *command, ".") == ""


def test_mypy_is_content():
    if not importlib.util.find_spec("mypy"):
        pytest.skip("mypy is not installed")
    assert output_of(sys.executable, "-m", "mypy") == ""


def test_continuous_integration_installs_the_tools():
    names = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(), re.M)
    assert {"ruff", "mypy", "pytest"} <= set(names)
    assert "requirements.txt" in (ROOT / "pyproject.toml").read_text()


def test_version_and_title_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert citation["version"] == version
    assert re.search(rf"^## v{re.escape(version)}$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    paper = citation["preferred-citation"]
    assert (paper["start"], paper["end"], paper["year"]) == (4714, 4724, 2025)
    authors = [author["family-names"] for author in paper["authors"]]
    assert f"({', '.join(authors)}," in " ".join((ROOT / "README.md").read_text().split())
