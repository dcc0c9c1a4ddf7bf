"""The pages as a site: it builds, links lead somewhere, commands name what exists."""

import importlib.util
import logging
import re
import shlex
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tools import configs

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
START = r"(?:^ *|[`;(] ?|&& )(?:[A-Z]+=\S+ )*"
PROGRAM = r"(?:python -m (?:tools|datasets)\.|python train\.py|bash scripts/)"
COMMAND = re.compile(rf"{START}({PROGRAM}[^`\n#|;&)]*)", re.M)


def commands(page: Path) -> list[list[str]]:
    text = page.read_text().replace("\\\n", " ")
    return [re.sub(r"[\"']", "", command).split() for command in COMMAND.findall(text)]


def sources(words: list[str]) -> str:
    """The text of the module or script that a command starts, and of all tools."""
    if words[0] == "bash":
        own = [ROOT / words[1]]
    elif words[1] == "-m":
        own = [Path(importlib.util.find_spec(words[2]).origin)]
    else:
        own = [ROOT / words[1]]
    shared = [*(ROOT / "tools").rglob("*.py"), ROOT / "train.py", *(ROOT / "datasets").glob("*.py")]
    return "\n".join(path.read_text() for path in dict.fromkeys([*own, *shared]))


def site(tmp_path: Path, docs: Path, **more) -> list[str]:
    """Warnings of a build of the folder `docs`."""
    said: list[str] = []

    class Seen(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    handler, logger = Seen(logging.WARNING), logging.getLogger("mkdocs")
    logger.addHandler(handler)
    try:
        config = load_config(
            str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(tmp_path / "site"), **more
        )
        build(config)
    finally:
        logger.removeHandler(handler)
    return said


def test_the_site_builds_without_a_warning_and_begins_with_the_readme(tmp_path):
    assert site(tmp_path, ROOT / "docs", repo_url="https://example.org/craft") == []
    first = (tmp_path / "site/index.html").read_text()
    assert "CRAFT" in first and 'href="benchmark/"' in first and 'href="docs/' not in first
    pictures = re.findall(r'<img[^>]*src="([^"]+)"', first)
    assert pictures and all((tmp_path / "site" / picture).is_file() for picture in pictures)
    assert (
        "https://example.org/craft/blob/main/tests/test_rivals.py"
        in (tmp_path / "site/rivals/index.html").read_text()
    )


def test_a_broken_link_and_a_page_that_nobody_lists_are_warnings(tmp_path):
    for page in PAGES:
        if page.parent.name == "docs":
            (tmp_path / "docs" / page.name).parent.mkdir(exist_ok=True)
            (tmp_path / "docs" / page.name).write_text(page.read_text())
    with open(tmp_path / "docs/using.md", "a") as page:
        page.write("\n[a](nowhere.md) [b](../tests/nothing.py) [c](running.md#no-such-heading)\n")
    (tmp_path / "docs/lost.md").write_text("# Lost\n")
    said = "\n".join(site(tmp_path, tmp_path / "docs"))
    for part in ("nowhere.md", "../tests/nothing.py", "no-such-heading", "lost.md"):
        assert part in said, said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_name_modules_scripts_options_and_files_that_exist(page):
    for words in commands(page):
        shown = shlex.join(words)
        if words[0] == "bash":
            assert (ROOT / words[1]).is_file(), shown
        elif words[1] == "-m":
            assert importlib.util.find_spec(words[2]), shown
        text = sources(words)
        for word in words[2:]:
            if re.fullmatch(r"--[a-z][a-z-]*", word) and words[1] != "scripts/test.sh":
                assert f'"{word}"' in text, f"{shown}: no option {word}"
            if word.startswith(("configs/", "assets/")) and not re.search(r"[<*${]", word):
                assert (ROOT / word).exists(), f"{shown}: no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_runs_of_a_page_name_data_set_trainer_and_config_in_this_order(page):
    for words in commands(page):
        if words[0] != "bash" or "tools.run" not in (ROOT / words[1]).read_text():
            continue
        cell = words[2:5]
        if len(cell) < 3 or any(re.search(r"[<*${\[.]", word) for word in cell[:2]):
            continue
        dataset, trainer, config = cell
        shown = shlex.join(words)
        assert (ROOT / f"configs/datasets/{dataset}.yaml").is_file(), shown
        assert (ROOT / "configs/trainers" / configs.structure_of(trainer)).is_dir(), shown
        if not re.search(r"[<*${\[]", config):
            assert all(Path(name).is_file() for name in configs.files(trainer, config)), shown


def test_most_pages_have_commands():
    found = {page.stem: len(commands(page)) for page in PAGES}
    assert sum(found.values()) > 80 and found["README"] > 10, found
