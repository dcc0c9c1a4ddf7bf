"""`datasets.prepare` from archives that are packed as the official ones are, by hand and from a
server.
"""

import dataclasses
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from datasets import check, prepare
from tools import miniatures

NAMES = [name for name, cls in prepare.prepared_classes().items() if cls.sources]


def pack(content: dict[str, Path], archive: Path) -> None:
    """{path inside: file or folder} into an archive of the kind that its name says."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for inside, path in content.items():
                for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    file.write(
                        one,
                        f"{inside}/{one.relative_to(path).as_posix()}" if path.is_dir() else inside,
                    )
    else:
        with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as file:
            for inside, path in content.items():
                file.add(path, inside)


def pack_source(source, home: Path, to: Path) -> None:
    """The official file that `source` describes, out of a miniature."""
    if source.unpack is None:
        shutil.copy(home / source.name, to / source.name)
        return
    content = {inside: home / place for inside, place in source.unpack.items()}
    if source.inner:
        pack(content, to / "inner" / Path(source.inner).name)
        content = {source.inner: to / "inner" / Path(source.inner).name}
    pack(content, to / source.name)


@pytest.fixture
def unchecked(monkeypatch):
    """Miniatures have other checksums than the published files."""

    def change(cls, **values):
        monkeypatch.setattr(
            cls,
            "sources",
            tuple(dataclasses.replace(source, md5="", size=0, **values) for source in cls.sources),
        )
        monkeypatch.setattr(cls, "split_md5", "")

    return change


@pytest.mark.parametrize("name", NAMES)
def test_official_archives_give_the_layout_that_loads(tmp_path, unchecked, capsys, name):
    cls = prepare.find(name)
    unchecked(cls)
    home, given = miniatures.make(cls, tmp_path / "made"), tmp_path / "given"
    given.mkdir()
    for source in cls.sources:
        pack_source(source, home, given)
    root = tmp_path / "data"
    if name == "ImageNet":  # a person puts the images there
        assert prepare.main([name, "--root", str(root), "--from", str(given)]) == 2
        said = capsys.readouterr().err.split("error: ")[1]
        assert (
            said.count("\n") == 3
            and "https://image-net.org" in said
            and "imagenet/images/train/<wnid>/" in said
        )
        assert (root / "imagenet/classnames.txt").is_file()
        shutil.copytree(home / "images", root / "imagenet/images")
    assert prepare.main([name, "--root", str(root), "--from", str(given)]) == 0
    if name == "MetaShift":  # its table is in no archive
        shutil.copy(home / cls.lists[0], root / cls.folder)
    assert f"{name}: " in capsys.readouterr().out
    shutil.copy(home / check.MINIATURE, root / cls.folder)
    report = check.examine(cls, str(root), images=True, progress=False)
    assert report.problems == [] and report.found == report.expected > 0
    before = {path: path.stat().st_mtime_ns for path in (root / cls.folder).rglob("*")}
    assert (
        prepare.main([name, "--root", str(root)]) == 0
    )  # all is there: nothing is asked of the network
    assert {path: path.stat().st_mtime_ns for path in (root / cls.folder).rglob("*")} == before


def test_the_mirror_of_the_whole_set_serves_where_the_official_address_is_dead(
    tmp_path, monkeypatch, capsys
):
    cls = prepare.find("StanfordCars")
    home, server = miniatures.make(cls, tmp_path / "made"), tmp_path / "server"
    pack({"stanford_cars": home}, server / cls.mirror.name)
    with serving(server) as address:
        monkeypatch.setattr(
            cls,
            "sources",
            tuple(
                dataclasses.replace(source, urls=(f"{address}/dead/{source.name}",))
                for source in cls.sources
            ),
        )
        monkeypatch.setattr(
            cls, "mirror", dataclasses.replace(cls.mirror, urls=(f"{address}/{cls.mirror.name}",))
        )
        root = tmp_path / "data"
        assert prepare.main(["stanford_cars", "--root", str(root)]) == 0
        assert "HTTP 404" in capsys.readouterr().out
    report = check.examine(cls, str(root), progress=False)
    assert report.problems == [] and report.name == "StanfordCars (miniature)"


def test_from_a_server(tmp_path, monkeypatch, unchecked):
    cls = prepare.find("DescribableTextures")
    home, server = miniatures.make(cls, tmp_path / "made"), tmp_path / "server"
    server.mkdir()
    unchecked(cls)
    for source in cls.sources:
        pack_source(source, home, server)
    with serving(server) as address:
        monkeypatch.setattr(
            cls,
            "sources",
            tuple(
                dataclasses.replace(source, urls=(f"{address}/{source.name}",))
                for source in cls.sources
            ),
        )
        assert prepare.main(["dtd", "--root", str(tmp_path / "data")]) == 0
    assert sorted(path.name for path in (tmp_path / "data/dtd").iterdir()) == [
        "images",
        "imdb",
        "labels",
        "split_zhou_DescribableTextures.json",
    ]


class serving:
    """The address of an HTTP server of a folder, while it lasts."""

    def __init__(self, folder: Path):
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_class_names_are_taken_from_imagenet_if_it_is_there(tmp_path, unchecked, monkeypatch):
    cls = prepare.find("ImageNetA")
    home, given, root = (
        miniatures.make(cls, tmp_path / "made"),
        tmp_path / "given",
        tmp_path / "data",
    )
    pack_source(cls.sources[0], home, given)
    (root / "imagenet").mkdir(parents=True)
    shutil.copy(home / "classnames.txt", root / "imagenet/classnames.txt")
    monkeypatch.setattr(
        "datasets.download.fetch", lambda *_: pytest.fail("nothing has to be downloaded")
    )
    assert prepare.main(["imagenet_a", "--root", str(root), "--from", str(given)]) == 0
    assert (root / "imagenet-adversarial/classnames.txt").read_text() == (
        home / "classnames.txt"
    ).read_text()


def test_a_wrong_from_is_said(tmp_path, capsys):
    (tmp_path / "some.zip").write_bytes(b"x")
    assert prepare.main(["dtd", "--root", str(tmp_path), "--from", str(tmp_path / "some.zip")]) == 2
    assert (
        "is none of the files that DescribableTextures is made of: rename it to one of "
        "dtd-r1.0.1.tar.gz, split_zhou" in capsys.readouterr().err
    )
    assert prepare.main(["dtd", "--root", str(tmp_path), "--from", str(tmp_path / "none.zip")]) == 2
    assert "none.zip' does not exist: correct --from" in capsys.readouterr().err
    (tmp_path / "dtd-r1.0.1.tar.gz").write_bytes(b"x")
    assert (
        prepare.main(
            ["dtd", "--root", str(tmp_path), "--from", str(tmp_path / "dtd-r1.0.1.tar.gz")]
        )
        == 2
    )
    assert (
        "dtd-r1.0.1.tar.gz' is not dtd-r1.0.1.tar.gz (checksum 9dd4e461268c8034f5c8564e155c67a6 "
        "instead of fff73e50" in capsys.readouterr().err
    )
