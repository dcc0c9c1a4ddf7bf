"""Hooks of mkdocs.yml: the README is the first page, and links that leave docs/ stay right.

A link to a file of the repository leads to `repo_url`, if mkdocs.yml has one, else it becomes the
file's name. A link to nothing is a warning, which `mkdocs build --strict` fails on.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
log = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as index.md, and the pictures that it shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for picture, _, target in LINK.findall(text):
        if picture and (ROOT / target).is_file() and target not in files.src_uris:
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each relative link of a page to a page of the site, or to the repository."""
    below = "" if page.file.src_uri == "index.md" else "docs"
    return LINK.sub(
        lambda link: _link(link, below, page.file.src_uri, config.repo_url, files), markdown
    )


def _link(link: re.Match, below: str, uri: str, repo_url: str | None, files: Files) -> str:
    picture, text, target = link.groups()
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return link[0]
    place = posixpath.normpath(posixpath.join(below, path))  # below the repository
    inside = place.removeprefix("docs/")
    if place.startswith("docs/") and inside in files.src_uris:
        return f"{picture}[{text}]({inside}{anchor and '#'}{anchor})"
    if picture and place in files.src_uris:
        return f"{picture}[{text}]({place})"
    if not (ROOT / place).exists():
        log.warning(f"{uri} links to '{target}', which does not exist")
    return f"[{text}]({repo_url.rstrip('/')}/blob/main/{place})" if repo_url else text
