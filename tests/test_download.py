"""Fetching, checking, unpacking and placing the files of data sets, against a local server that
misbehaves in all ways.
"""

import contextlib
import errno
import hashlib
import inspect
import io
import os
import random
import re
import shutil
import stat
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.utils import UserError
from datasets import download
from datasets.download import Source, arrange, fetch

BODY = random.Random(0).randbytes(300_000)
FILES = {
    "set/images/a.jpg": b"picture a",
    "set/images/deep/b.jpg": b"picture b",
    "set/labels.txt": b"a b",
    "set/rest.txt": b"not wanted",
}
PLACES = {"set/images": "images", "set/labels.txt": "labels.txt"}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Server:
    """Files by path; `asked` are the requests as (path, headers)."""

    def __init__(self):
        self.files, self.asked, owner = {}, [], self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.asked.append((self.path, dict(self.headers)))
                owner.answer(self, **owner.files.get(self.path, {"status": 404}))

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def put(self, path: str, body: bytes = BODY, **how) -> str:
        self.files[path] = {"body": body, **how}
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def headers(self, name: str) -> list:
        return [headers.get(name) for _, headers in self.asked]

    @staticmethod
    def answer(
        handler,
        body=b"",
        status=200,
        ranges=True,
        if_range=True,
        breaks=(),
        more=0,
        most=None,
        etag='"1"',
        headers=(),
    ):
        """breaks: for each request in turn after how many bytes it breaks off. more: how much too
        long Content-Length is. most: bytes that what it sends for a Range has at most. if_range:
        whether that header is respected.
        """
        start, asked, extra = 0, handler.headers.get("Range"), dict(headers)
        if etag:
            extra["ETag"] = etag
        if (
            asked
            and ranges
            and status == 200
            and not (if_range and handler.headers.get("If-Range", etag) != etag)
        ):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            status = 206 if start < len(body) else 416
            extra["Content-Range"] = (
                f"bytes {start}-{len(body) - 1}/{len(body)}"
                if status == 206
                else f"bytes */{len(body)}"
            )
        whole, body = body, {200: body, 206: body[start:][:most]}.get(status, b"")
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body) + more), **extra}.items():
            if value is not None:
                handler.send_header(name, value)
        handler.end_headers()
        if breaks:
            body = whole[start : breaks.pop(0)]
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "WAIT_S", 0)
    monkeypatch.setenv("NO_PROXY", "*")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def make_zip(files) -> bytes:
    """files: {name, or a ZipInfo: content}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def make_tar(files, mode="w:gz") -> bytes:
    """files: {name: content, or (type, link name)}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tree(folder: Path) -> dict:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


PLACED = {"images/a.jpg": b"picture a", "images/deep/b.jpg": b"picture b", "labels.txt": b"a b"}


def refused(message: str, function, *arguments, **more) -> str:
    """The one sentence with which it is refused."""
    with pytest.raises(UserError, match=message or None) as error:
        function(*arguments, progress=False, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


# Downloading


def test_a_file_is_fetched_verified_and_not_fetched_again(server, tmp_path, capsys):
    source = Source("file.bin", (server.put("/file"),), md5=md5(BODY), size=len(BODY))
    path = fetch(source, tmp_path)
    assert path == tmp_path / ".downloads/file.bin" and tree(tmp_path) == {
        ".downloads/file.bin": BODY
    }
    assert "file.bin: 100%" in capsys.readouterr().err
    assert fetch(source, tmp_path, progress=False) == path and len(server.asked) == 1
    assert capsys.readouterr().err == ""
    path.write_bytes(b"damaged later")
    assert fetch(source, tmp_path, progress=False).read_bytes() == BODY and len(server.asked) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_connection_that_breaks_off_is_gone_on_with(server, tmp_path, known):
    source = Source(
        "file.bin",
        (server.put("/file", breaks=[100_000, 200_000]),),
        md5=md5(BODY) if known else "",
    )
    assert fetch(source, tmp_path, progress=False).read_bytes() == BODY
    assert server.headers("Range") == [None, "bytes=100000-", "bytes=200000-"] and server.headers(
        "If-Range"
    ) == [None, '"1"', '"1"']


def test_a_download_goes_on_in_another_run_as_long_as_it_brings_something(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(download, "TRIES", 1)
    source = Source("file.bin", (server.put("/file", breaks=[100_000, 100_000]),))
    refused(r"IncompleteRead\(0 bytes read, 200000 more expected\)", fetch, source, tmp_path)
    assert (tmp_path / ".downloads/file.bin.part").read_bytes() == BODY[:100_000]
    assert fetch(source, tmp_path, progress=False).read_bytes() == BODY
    assert server.headers("Range")[-1] == "bytes=100000-"
    assert tree(tmp_path) == {".downloads/file.bin": BODY}


def test_a_broken_off_file_is_gone_on_with_before_another_mirror_replaces_it(server, tmp_path):
    broken = server.put("/second", breaks=[200_000] * 9)
    refused("file.bin", fetch, Source("file.bin", (server.url("/none"), broken)), tmp_path)
    server.put("/second")
    server.put("/none")
    server.asked.clear()
    assert (
        fetch(
            Source("file.bin", (server.url("/none"), broken)), tmp_path, progress=False
        ).read_bytes()
        == BODY
    )
    assert [path for path, _ in server.asked] == ["/second"] and server.headers("Range") == [
        "bytes=200000-"
    ]


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False},
        {"body": BODY[::-1], "etag": '"2"'},
        {"body": BODY[::-1], "etag": '"2"', "if_range": False},
        {"body": BODY[:150_000][::-1], "if_range": False},
    ],
    ids=["ignores Range", "has another file", "ignores If-Range", "has a shorter file"],
)
def test_a_server_that_cannot_go_on_sends_the_whole_file_again(server, tmp_path, how):
    url = server.put("/file", breaks=[200_000] * 9)
    refused("file.bin", fetch, Source("file.bin", (url,)), tmp_path)
    server.asked.clear()
    server.put("/file", **how)
    assert (
        fetch(Source("file.bin", (url,)), tmp_path, progress=False).read_bytes()
        == server.files["/file"]["body"]
    )
    assert server.headers("Range")[0] == "bytes=200000-"


def test_without_etag_or_date_only_a_checksum_allows_to_go_on(server, tmp_path):
    url = server.put("/file", breaks=[100_000], etag=None)
    assert fetch(Source("file.bin", (url,)), tmp_path / "a", progress=False).read_bytes() == BODY
    assert server.headers("Range") == [None, None]
    server.put("/file", breaks=[100_000], etag=None)
    assert (
        fetch(
            Source("file.bin", (url,), md5=md5(BODY)), tmp_path / "b", progress=False
        ).read_bytes()
        == BODY
    )
    assert server.headers("Range")[2:] == [None, "bytes=100000-"] and server.headers("If-Range")[
        2:
    ] == [None, None]


def test_a_mirror_starts_anew_and_has_as_many_tries_as_the_first_address(server, tmp_path):
    first = server.put("/first", breaks=[250_000] * 9)
    second = server.put(
        "/second", BODY[::-1], breaks=[50_000, 100_000, 150_000, 200_000, 240_000]
    )  # with the same ETag, by chance
    assert (
        fetch(Source("file.bin", (first, second)), tmp_path, progress=False).read_bytes()
        == BODY[::-1]
    )
    assert [headers.get("Range") for path, headers in server.asked if path == "/second"][:2] == [
        None,
        "bytes=50000-",
    ]


def test_a_part_that_nobody_asked_for_is_not_the_file(server, tmp_path):
    refused(
        r"\(HTTP 206 Partial Content\)",
        fetch,
        Source("file.bin", (server.put("/file", status=206, most=100),)),
        tmp_path,
    )


def test_a_weak_etag_does_not_count_and_a_date_does(server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    server.put(
        "/file", breaks=[100_000], etag=None, headers={"ETag": 'W/"1"', "Last-Modified": date}
    )
    fetch(Source("file.bin", (server.url("/file"),)), tmp_path, progress=False)
    assert server.headers("If-Range")[1] == date


def test_a_server_that_sends_parts_of_its_own_size_is_asked_until_all_is_there(server, tmp_path):
    server.put("/file", breaks=[100_000], most=50_000)
    assert (
        fetch(Source("file.bin", (server.url("/file"),)), tmp_path, progress=False).read_bytes()
        == BODY
    )
    assert len(server.asked) == 5


def test_a_whole_file_of_a_run_that_was_killed_is_kept(server, tmp_path):
    url = server.put("/file", breaks=[200_000] * 9)
    refused("file.bin", fetch, Source("file.bin", (url,)), tmp_path)
    (tmp_path / ".downloads/file.bin.part").write_bytes(BODY)
    server.asked.clear()
    server.put("/file")
    assert (
        fetch(Source("file.bin", (url,), md5=md5(BODY)), tmp_path, progress=False).read_bytes()
        == BODY
    )
    assert server.headers("Range") == ["bytes=300000-"]


def test_content_encoding_is_no_reason_to_decode_the_file(server, tmp_path):
    body = make_tar(FILES)
    url = server.put("/file", body, headers={"Content-Encoding": "x-gzip"})
    assert (
        fetch(Source("file.tar.gz", (url,), md5=md5(body)), tmp_path, progress=False).read_bytes()
        == body
    )


def test_a_length_that_is_too_long_is_a_reason_to_take_the_mirror(server, tmp_path):
    liar, good = server.put("/liar", more=1000, ranges=False), server.put("/good")
    message = refused("", fetch, Source("file.bin", (liar,)), tmp_path)
    assert (
        f"'file.bin' cannot be downloaded from {liar} (IncompleteRead(300000 bytes read, 1000 more "
        "expected))" in message
    )
    assert (
        len(server.asked) == 1 + download.TRIES and not (tmp_path / ".downloads/file.bin").exists()
    )
    assert fetch(Source("file.bin", (liar, good)), tmp_path, progress=False).read_bytes() == BODY


@pytest.mark.parametrize("known", [{"md5": md5(BODY)}, {"size": len(BODY)}], ids=["md5", "size"])
def test_a_length_that_is_too_short_cuts_the_file_which_is_noticed(server, tmp_path, known):
    liar, good = server.put("/liar", more=-1000), server.put("/good")
    reason = (
        f"checksum {md5(BODY[:-1000])} instead of {md5(BODY)}"
        if "md5" in known
        else "299,000 bytes instead of 300,000"
    )
    assert f"{liar} ({reason})" in refused(
        "", fetch, Source("file.bin", (liar,), **known), tmp_path
    )
    assert not (tmp_path / ".downloads/file.bin.part").exists()
    assert (
        fetch(Source("file.bin", (liar, good), **known), tmp_path, progress=False).read_bytes()
        == BODY
    )


def test_a_wrong_checksum_goes_on_to_the_mirror_and_without_one_is_said(server, tmp_path):
    wrong, good = server.put("/wrong", BODY[::-1]), server.put("/good")
    message = refused(
        "", fetch, Source("file.bin", (wrong, server.url("/none")), md5=md5(BODY)), tmp_path
    )
    assert message == (
        f"'file.bin' cannot be downloaded from {wrong} (checksum {md5(BODY[::-1])} instead of "
        f"{md5(BODY)}), {server.url('/none')} (HTTP 404 Not Found): fetch it by hand and put it at "
        f"'{tmp_path / '.downloads/file.bin'}' or give it with --from FILE"
    )
    assert tree(tmp_path / ".downloads").keys() <= {"file.bin.part.from"} and [
        path for path, _ in server.asked
    ] == ["/wrong", "/none"]
    assert (
        fetch(
            Source("file.bin", (wrong, good), md5=md5(BODY)), tmp_path, progress=False
        ).read_bytes()
        == BODY
    )


def test_what_is_put_by_hand_is_taken_and_no_address_is_said(tmp_path):
    refused(
        r"'file.bin' has no address to download it from: fetch it by hand and put it at "
        r"'.*file.bin' or give",
        fetch,
        Source("file.bin"),
        tmp_path,
    )
    (tmp_path / ".downloads/file.bin").write_bytes(BODY)
    assert fetch(Source("file.bin", size=len(BODY)), tmp_path, progress=False).read_bytes() == BODY


@pytest.mark.parametrize("status, asked", [(404, 1), (403, 1), (503, 4), (429, 4)])
def test_only_passing_errors_are_tried_again(server, tmp_path, status, asked):
    refused(
        rf"\(HTTP {status} \w",
        fetch,
        Source("file.bin", (server.put("/file", status=status),)),
        tmp_path,
    )
    assert len(server.asked) == asked


def test_nobody_listens_and_no_address(server, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    assert f"{server.url('/x')} (Connection refused)" in refused(
        "", fetch, Source("file.bin", (server.url("/x"),)), tmp_path
    )
    refused(r"http:///x \(Invalid URL", fetch, Source("file.bin", ("http:///x",)), tmp_path)


def test_the_reason_is_not_that_of_an_error_which_the_caller_is_handling(server, tmp_path):
    try:
        raise UserError("an earlier one")
    except UserError:
        assert "earlier" not in refused(
            "HTTP 503", fetch, Source("file.bin", (server.put("/file", status=503),)), tmp_path
        )


@pytest.mark.parametrize(
    "page", [b"\n<!DOCTYPE html><html>Quota exceeded</html>", b"<HTML>sign in</HTML>"]
)
def test_a_web_page_is_not_the_file(server, tmp_path, page):
    url = server.put("/page", page)
    refused(
        r"page \(a web page instead of the file\): fetch",
        arrange,
        Source("set.zip", (url,), unpack=PLACES),
        tmp_path,
    )
    refused(
        r"page \(a web page instead of the file\): fetch",
        arrange,
        Source("set.mat", (url,)),
        tmp_path,
    )
    refused(
        r"page \(not a whole zip or tar archive\): fetch",
        fetch,
        Source("set.zip", (server.put("/page", b"no"),), unpack=PLACES),
        tmp_path,
    )


# Google Drive and Hugging Face


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for gdown and huggingface_hub: what was asked of them, and what they do."""
    state = SimpleNamespace(calls=[], body=BODY, error=None)

    def write(path):
        if state.error:
            raise state.error
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(state.body)
        return str(path)

    def gdown_download(**arguments):
        state.calls.append(arguments)
        return write(arguments["output"])

    def hub_download(*arguments, local_dir, **more):
        state.calls.append((*arguments, more["repo_type"], Path(local_dir).name))
        (Path(local_dir) / ".cache").mkdir(parents=True, exist_ok=True)
        return write(Path(local_dir) / arguments[1])

    monkeypatch.setitem(sys.modules, "gdown", SimpleNamespace(download=gdown_download))
    monkeypatch.setitem(
        sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hub_download)
    )
    return state


def test_google_drive_goes_through_gdown(libraries, tmp_path):
    assert (
        fetch(
            Source("file.bin", ("gdrive:some-id",), md5=md5(BODY)), tmp_path, progress=False
        ).read_bytes()
        == BODY
    )
    assert libraries.calls == [
        {
            "id": "some-id",
            "output": str(tmp_path / ".downloads/file.bin.part.gdrive"),
            "quiet": True,
            "resume": True,
            "retries": download.TRIES - 1,
            "timeout": download.TIMEOUT_S,
        }
    ]
    assert tree(tmp_path) == {".downloads/file.bin": BODY}


@pytest.mark.parametrize(
    "url, asked",
    [
        ("hf:owner/repo/sub/file.zip", ("owner/repo", "sub/file.zip", "model")),
        ("hf:datasets/owner/repo/file.zip", ("owner/repo", "file.zip", "dataset")),
    ],
)
def test_hugging_face_goes_through_its_library(libraries, tmp_path, url, asked):
    assert (
        fetch(Source("file.bin", (url,), size=len(BODY)), tmp_path, progress=False).read_bytes()
        == BODY
    )
    assert libraries.calls == [(*asked, "file.bin.part.hf")]
    assert [path.name for path in (tmp_path / ".downloads").iterdir()] == ["file.bin"]


@pytest.mark.parametrize("url", ["gdrive:some-id", "hf:owner/repo/file.bin"])
def test_errors_of_the_libraries_are_reasons(server, libraries, tmp_path, url):
    libraries.error = ValueError(
        "Cannot retrieve the public link\n\n\tof the file, " + "have a look " * 90
    )
    message = refused(
        r"\(Cannot retrieve the public link of the file, have",
        fetch,
        Source("file.bin", (url,)),
        tmp_path,
    )
    assert (
        message.startswith(f"'file.bin' cannot be downloaded from {url} (") and len(message) < 500
    )
    libraries.error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    refused(r"\(Connection reset by peer\): fetch", fetch, Source("file.bin", (url,)), tmp_path)
    libraries.error = OSError(errno.ENOSPC, "No space left on device")
    refused(
        r"'.*' cannot be read or written \(No space left on device\): free space, correct the "
        r"rights or choose another --root$",
        fetch,
        Source("file.bin", (url,)),
        tmp_path,
    )
    libraries.error, libraries.body = None, b"<html>Quota exceeded</html>"
    refused(
        r"\(a web page instead of the file\): fetch", fetch, Source("file.bin", (url,)), tmp_path
    )
    assert (
        fetch(Source("file.bin", (url, server.put("/file"))), tmp_path, progress=False).read_bytes()
        == BODY
    )


@pytest.mark.parametrize(
    "url, package",
    [
        ("gdrive:some-id", "gdown"),
        ("hf:owner/repo/file.bin", "huggingface_hub"),
        ("http://x/y", "requests"),
    ],
)
def test_a_library_that_is_not_installed(monkeypatch, tmp_path, url, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"{url} (needs the package {package}: run `pip install {package}`): fetch" in refused(
        "", fetch, Source("file.bin", (url,)), tmp_path
    )


def test_what_gdown_cannot_go_on_with_is_started_anew(libraries, tmp_path):
    partial = tmp_path / ".downloads/file.bin.part.gdrive12345678.part"
    partial.parent.mkdir()
    partial.write_bytes(b"half of another file")
    libraries.error = TimeoutError("timed out")
    refused("timed out", fetch, Source("file.bin", ("gdrive:some-id",)), tmp_path)
    assert partial.exists()
    libraries.error = ValueError(
        "Server did not honor the requested byte range; the partial file is preserved."
    )
    refused("byte range", fetch, Source("file.bin", ("gdrive:some-id",)), tmp_path)
    assert not partial.exists()


def test_the_libraries_have_the_arguments_that_are_used():
    gdown, hub = pytest.importorskip("gdown"), pytest.importorskip("huggingface_hub")
    assert {"id", "output", "quiet", "resume", "retries", "timeout"} <= inspect.signature(
        gdown.download
    ).parameters.keys()
    assert {"repo_id", "filename", "repo_type", "local_dir", "tqdm_class"} <= inspect.signature(
        hub.hf_hub_download
    ).parameters.keys()


# Putting in place


@pytest.mark.parametrize(
    "name, archive",
    [
        ("set.zip", make_zip(FILES)),
        ("set.tgz", make_tar(FILES)),
        ("set.tar", make_tar(FILES, "w")),
        ("set.tar.xz", make_tar(FILES, "w:xz")),
        ("set.tar", make_tar({f"./{k}": v for k, v in FILES.items()}, "w")),
    ],
    ids=["zip", "tgz", "tar", "xz", "dots"],  # an archive's bytes hold the time
)
def test_an_archive_is_put_in_place_once(server, tmp_path, name, archive, capsys):
    source = Source(name, (server.put("/set", archive),), md5=md5(archive), unpack=PLACES)
    assert arrange(source, tmp_path / "data/set") is True
    assert tree(tmp_path / "data/set") == PLACED and sorted(os.listdir(tmp_path / "data/set")) == [
        "images",
        "labels.txt",
    ]
    assert f"unpack {name}: " in capsys.readouterr().err
    assert (
        arrange(source, tmp_path / "data/set", progress=False) is False and len(server.asked) == 1
    )


def test_only_what_is_missing_is_replaced(server, tmp_path):
    source = Source("set.zip", (server.put("/set", make_zip(FILES)),), unpack=PLACES)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/own.jpg").write_bytes(b"mine")
    assert arrange(source, tmp_path, progress=False)
    assert tree(tmp_path) == {"images/own.jpg": b"mine", "labels.txt": b"a b"}


def test_a_plain_file_and_its_place(server, tmp_path):
    source = Source("split.json", (server.put("/split", b"{}"),), md5=md5(b"{}"))
    assert arrange(source, tmp_path, progress=False) and tree(tmp_path) == {"split.json": b"{}"}
    assert (
        not arrange(source, tmp_path, progress=False)
        and len(server.asked) == 1
        and os.listdir(tmp_path) == ["split.json"]
    )


def test_an_archive_in_the_archive(server, tmp_path):
    archive = make_zip(
        {
            "outer/set.tar.gz": make_tar(FILES),
            "outer/other.tar.gz": b"",
            "__MACOSX/outer/._set.tar.gz": b"junk",
        }
    )
    source = Source(
        "set.zip", (server.put("/set", archive),), unpack=PLACES, inner="outer/set.tar.gz"
    )
    assert arrange(source, tmp_path, progress=False) and tree(tmp_path) == PLACED
    refused(
        r"'.*outer.zip' lacks 'outer/none.tar.gz' \(at its top: outer\): it is not the right "
        r"archive",
        arrange,
        Source("outer.zip", (server.url("/set"),), unpack=PLACES, inner="outer/none.tar.gz"),
        tmp_path / "b",
    )


@pytest.mark.parametrize("top", ["", "pets/", "mirror/"])
def test_a_whole_archive_fills_the_folder_without_touching_what_is_there(server, tmp_path, top):
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "split.json").write_bytes(b"mine")
    archive = make_zip(
        {f"{top}images/a.jpg": b"a", f"{top}split.json": b"theirs", "__MACOSX/x": b""}
    )
    source = Source("mirror.zip", (server.put("/set", archive),), unpack={"": ""})
    assert (
        arrange(source, folder, progress=False)
        and not arrange(source, folder, progress=False)
        and len(server.asked) == 1
    )
    assert (
        tree(folder / "images") == {"a.jpg": b"a"}
        and (folder / "split.json").read_bytes() == b"mine"
    )
    shutil.rmtree(folder / "images")
    assert arrange(source, folder, progress=False) and tree(folder / "images") == {"a.jpg": b"a"}


def test_a_whole_archive_in_a_folder_of_its_own(server, tmp_path):
    source = Source(
        "set.zip", (server.put("/set", make_zip({"a.jpg": b"a"})),), unpack={"": "images"}
    )
    assert arrange(source, tmp_path, progress=False) and tree(tmp_path) == {"images/a.jpg": b"a"}


@pytest.mark.parametrize(
    "layout",
    ["file", "file by another name", "folder with it", "folder unpacked", "folder in place"],
)
def test_what_the_user_has_is_copied_and_kept(tmp_path, layout, capsys):
    archive, given = make_zip(FILES), tmp_path / "given"
    given.mkdir()
    if layout.startswith("file") or layout == "folder with it":
        path = given / ("mine.zip" if "another" in layout else "set.zip")
        path.write_bytes(archive)
    else:
        for name, content in (FILES if layout == "folder unpacked" else PLACED).items():
            (given / name).parent.mkdir(parents=True, exist_ok=True)
            (given / name).write_bytes(content)
    before = tree(given)
    source = Source("set.zip", ("http://127.0.0.1:9/never-asked",), md5=md5(archive), unpack=PLACES)
    assert arrange(source, tmp_path / "set", path if layout.startswith("file") else given)
    assert tree(tmp_path / "set") == PLACED and tree(given) == before
    assert ("unpack" in capsys.readouterr().err) == (
        not layout.startswith("folder unpacked") and layout != "folder in place"
    )
    assert arrange(source, tmp_path / "set", given, progress=False) is False


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_plain_file_that_the_user_has(tmp_path, as_folder):
    (tmp_path / "given").mkdir()
    (tmp_path / "given/split.json").write_bytes(b"{}")
    given = tmp_path / "given" if as_folder else tmp_path / "given/split.json"
    assert arrange(Source("split.json", md5=md5(b"{}")), tmp_path / "set", given, progress=False)
    assert tree(tmp_path) == {"given/split.json": b"{}", "set/split.json": b"{}"}


def test_what_the_user_gives_is_not_it(tmp_path):
    (tmp_path / "given").mkdir()
    source = Source("set.zip", md5=md5(b"right"), unpack=PLACES)
    refused(
        r"'.*given' does not hold 'set.zip' or 'set/images' or 'set/labels.txt': give the file or "
        r"the right folder with --from",
        arrange,
        source,
        tmp_path / "set",
        tmp_path / "given",
    )
    refused(
        r"'.*given' does not hold 'set.zip': give the file",
        arrange,
        replace(source, unpack={"": ""}),
        tmp_path / "set",
        tmp_path / "given",
    )
    refused(
        "'.*nowhere' does not exist: correct --from",
        arrange,
        source,
        tmp_path / "set",
        tmp_path / "nowhere",
    )
    (tmp_path / "given/set.zip").write_bytes(b"wrong")
    refused(
        rf"'.*given.set.zip' is not set.zip \(checksum {md5(b'wrong')} instead of "
        rf"{md5(b'right')}\): get it again or correct --from",
        arrange,
        source,
        tmp_path / "set",
        tmp_path / "given",
    )
    refused(
        r"is not set.zip \(not a whole zip or tar archive\): get",
        arrange,
        replace(source, md5=""),
        tmp_path / "set",
        tmp_path / "given/set.zip",
    )
    assert not (tmp_path / "set").exists() and (tmp_path / "given/set.zip").read_bytes() == b"wrong"


def test_paths_that_the_archive_lacks(server, tmp_path):
    source = Source(
        "set.zip",
        (server.put("/set", make_zip(FILES)),),
        unpack={"set/images": "images", "set/none": "none"},
    )
    refused(
        r"'.*set.zip' lacks 'set/none' \(at its top: set\): it is not the right archive",
        arrange,
        source,
        tmp_path,
    )
    refused(
        r"lacks '' \(at its top: nothing\)",
        arrange,
        replace(source, name="b", urls=(server.put("/b", make_zip({})),), unpack={"": "all"}),
        tmp_path,
    )
    assert not (tmp_path / "images").exists() and not (tmp_path / ".unpacking-set.zip").exists()


def test_a_run_that_was_killed_while_unpacking_leaves_nothing_in_place_and_the_next_completes(
    server, tmp_path, monkeypatch
):
    source = Source("set.tgz", (server.put("/set", make_tar(FILES)),), unpack=PLACES)
    extract, clean = tarfile.TarFile.extract, shutil.rmtree

    def killed(self, member, *args, **more):
        if member.name == "set/labels.txt":
            raise KeyboardInterrupt
        extract(self, member, *args, **more)

    monkeypatch.setattr(tarfile.TarFile, "extract", killed)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **more: None)  # killed: nobody cleans up
    with pytest.raises(KeyboardInterrupt):
        arrange(source, tmp_path, progress=False)
    assert (
        sorted(os.listdir(tmp_path)) == [".downloads", ".unpacking-set.tgz"]
        and len(tree(tmp_path / ".unpacking-set.tgz")) == 2
    )
    (tmp_path / ".unpacking-set.tgz/content/set/images/stale.jpg").write_bytes(
        b"of an older archive"
    )
    monkeypatch.setattr(tarfile.TarFile, "extract", extract)
    monkeypatch.setattr(shutil, "rmtree", clean)
    assert (
        arrange(source, tmp_path, progress=False)
        and tree(tmp_path) == PLACED
        and len(server.asked) == 1
    )


# Archives that are broken or mean harm


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


LINK, HARD, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
HARM = {
    "zip ..": (
        make_zip({**FILES, "set/../../evil.txt": b"x"}),
        "set/../../evil.txt",
        "leads out of the folder",
    ),
    "zip absolute": (
        make_zip({**FILES, "/tmp/evil.txt": b"x"}),
        "/tmp/evil.txt",
        "leads out of the folder",
    ),
    "zip backslash": (
        make_zip({**FILES, "..\\evil.txt": b"x"}),
        "..\\evil.txt",
        "leads out of the folder",
    ),
    "zip drive": (make_zip({**FILES, "C:evil.txt": b"x"}), "C:evil.txt", "leads out of the folder"),
    "zip link": (
        make_zip({**FILES, zip_entry("set/images/out", stat.S_IFLNK | 0o777): b"/etc"}),
        "set/images/out",
        "is a link or a device",
    ),
    "zip device": (
        make_zip({**FILES, zip_entry("set/dev", stat.S_IFCHR | 0o777): b""}),
        "set/dev",
        "is a link or a device",
    ),
    "tar ..": (make_tar({**FILES, "../evil.txt": b"x"}), "../evil.txt", "leads out of the folder"),
    "tar absolute": (
        make_tar({**FILES, "/tmp/evil.txt": b"x"}),
        "/tmp/evil.txt",
        "leads out of the folder",
    ),
    "tar backslash": (
        make_tar({**FILES, "set\\..\\..\\evil.txt": b"x"}),
        "set\\..\\..\\evil.txt",
        "leads out of the folder",
    ),
    "tar through a link": (
        make_tar({"set/images": (LINK, "../.."), "set/images/evil.txt": b"x"}),
        "set/images",
        "is a link or a device",
    ),
    "tar absolute link": (
        make_tar({**FILES, "set/images/out": (LINK, "/etc")}, "w"),
        "set/images/out",
        "is a link or a device",
    ),
    "tar hard link": (
        make_tar({**FILES, "set/images/pw": (HARD, "../../../etc/passwd")}),
        "set/images/pw",
        "is a link or a device",
    ),
    "tar absolute hard link": (
        make_tar({**FILES, "set/images/pw": (HARD, "/etc/passwd")}),
        "set/images/pw",
        "is a link or a device",
    ),
    "tar device": (
        make_tar({**FILES, "set/images/null": (DEVICE, "")}),
        "set/images/null",
        "is a link or a device",
    ),
    "tar fifo": (
        make_tar({**FILES, "set/images/fifo": (tarfile.FIFOTYPE, "")}),
        "set/images/fifo",
        "is a link or a device",
    ),
}


@pytest.mark.parametrize("guard", [True, False], ids=["data filter", "old Python"])
@pytest.mark.parametrize("harm", HARM)
def test_archives_that_mean_harm_are_refused_and_nothing_is_placed(
    tmp_path, monkeypatch, harm, guard
):
    archive, member, why = HARM[harm]
    if not guard:
        monkeypatch.setattr(download, "DATA_FILTER", {})
    given = tmp_path / "set.archive"
    given.write_bytes(archive)
    message = refused(
        "", arrange, Source("set.archive", unpack=PLACES), tmp_path / "a/b/set", given=given
    )
    assert (
        message
        == f"'{given}' is not unpacked because '{member}' in it {why}: get it from another source"
    )
    assert tree(tmp_path) == {"set.archive": archive} and not Path("/tmp/evil.txt").exists()


def test_a_hard_link_inside_is_a_file(tmp_path):
    (tmp_path / "set.tar").write_bytes(
        make_tar({**FILES, "set/images/c.jpg": (HARD, "set/images/a.jpg")}, "w")
    )
    assert arrange(
        Source("set.tar", unpack=PLACES), tmp_path / "set", tmp_path / "set.tar", progress=False
    )
    assert tree(tmp_path / "set") == {**PLACED, "images/c.jpg": b"picture a"}
    (tmp_path / "set.tar").write_bytes(
        make_tar({**FILES, "set/images/c.jpg": (HARD, "set/none.jpg")}, "w")
    )
    refused(
        "set.tar' cannot be unpacked",
        arrange,
        Source("set.tar", unpack=PLACES),
        tmp_path / "b",
        given=tmp_path / "set.tar",
    )


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_would_fill_the_disk(tmp_path, monkeypatch, make):
    given = tmp_path / "set.archive"
    given.write_bytes(make({**FILES, "set/images/zeros": bytes(1_000_000)}))
    monkeypatch.setattr(download, "SMALL", 100_000)
    refused(
        r"is not unpacked because 'set/images/zeros' in it makes more than [\d,]+ bytes of [\d,]+: "
        r"get it from another source",
        arrange,
        Source("set.archive", unpack=PLACES),
        tmp_path / "set",
        given=given,
    )
    monkeypatch.undo()
    assert arrange(Source("set.archive", unpack=PLACES), tmp_path / "set", given, progress=False)


NOISE = {"set/images/a.jpg": BODY, "set/images/b.jpg": BODY[::-1], "set/labels.txt": b"a b"}
WHOLE = make_tar(NOISE, "w")
BROKEN = {
    "tar.gz cut": make_tar(NOISE)[:-200_000],
    "tar.gz cut at the end": make_tar(NOISE)[:-4],
    "tar.xz cut": make_tar(NOISE, "w:xz")[:-200_000],
    "tar.gz with a flipped bit": (
        lambda data: data[:250_000] + bytes([data[250_000] ^ 1]) + data[250_001:]
    )(make_tar(NOISE)),
    "tar cut in a file": WHOLE[:400_000],
    "tar cut at a header": WHOLE[: WHOLE.index(b"set/labels.txt")],
    "tar cut in a header": WHOLE[: WHOLE.index(b"set/labels.txt") + 100],
    "tar with a damaged header": WHOLE.replace(b"set/labels.txt", b"set/labels.tyt"),
    "zip damaged": (lambda data: data[:50_000] + bytes(1000) + data[51_000:])(make_zip(NOISE)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_archives(tmp_path, name):
    given = tmp_path / "set.archive"
    given.write_bytes(BROKEN[name])
    refused(
        r"'.*set.archive' cannot be unpacked \(.+\): delete it and get it again$",
        arrange,
        Source("set.archive", unpack={"set/images": "images"}),
        tmp_path / "set",
        given=given,
    )
    assert not tree(tmp_path / "set") and given.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", make_zip(NOISE)[:-100], make_tar(NOISE)[:15], b"PK\3\4"],
    ids=["empty", "text", "zip cut", "gz cut", "PK"],
)
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "given.zip").write_bytes(content)
    refused(
        r"'.*given.zip' is not set.zip \(not a whole zip or tar archive\): get it again or correct "
        r"--from",
        arrange,
        Source("set.zip", unpack=PLACES),
        tmp_path / "set",
        given=tmp_path / "given.zip",
    )


def test_a_zip_with_a_password(tmp_path):
    data = bytearray(make_zip({"set/images/a.jpg": b"a"}))
    data[data.index(b"PK\1\2") + 8] |= 1
    data[6] |= 1
    (tmp_path / "set.zip").write_bytes(data)
    refused(
        r"cannot be unpacked \(.*password required.*\)",
        arrange,
        Source("set.zip", unpack={"": "all"}),
        tmp_path / "set",
        given=tmp_path / "set.zip",
    )


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    (tmp_path / "set.tar").write_bytes(make_tar({**FILES, "set/z.zip": make_zip({"x": b""})}, "w"))
    assert (
        arrange(
            Source("set.tar", unpack=PLACES), tmp_path / "set", tmp_path / "set.tar", progress=False
        )
        and tree(tmp_path / "set") == PLACED
    )


# The disk


def no_space(*args, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


@contextlib.contextmanager
def full(monkeypatch, owner, name):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, no_space)
        yield


def test_a_full_disk_is_one_sentence_and_nothing_is_half_there(server, tmp_path, monkeypatch):
    source = Source("set.zip", (server.put("/set", make_zip(FILES)),), unpack=PLACES)
    message = (
        r"'.*' cannot be read or written \(No space left on device\): free space, correct the "
        r"rights or choose another --root$"
    )
    for owner, name in (
        (Path, "mkdir"),
        (download, "_mark"),
        (os, "replace"),
        (zipfile.ZipFile, "extract"),
    ):
        with full(monkeypatch, owner, name):
            refused(message, arrange, source, tmp_path / "set")
        assert not any(
            path.exists()
            for path in (
                tmp_path / "set/images",
                tmp_path / "set/labels.txt",
                tmp_path / "set/.unpacking-set.zip",
            )
        )
    (tmp_path / "given").mkdir()
    for name, content in PLACED.items():
        (tmp_path / "given" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "given" / name).write_bytes(content)
    with full(monkeypatch, shutil, "copyfile"):
        refused(message, arrange, source, tmp_path / "set", given=tmp_path / "given")
    assert not (tmp_path / "set/images").exists()
    assert arrange(source, tmp_path / "set", progress=False) and tree(tmp_path / "set") == PLACED


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    source = Source("set.zip", (server.put("/set", make_zip(FILES)),), unpack=PLACES)
    refused(
        r"'.*file.*' cannot be read or written \(Not a directory\): free",
        arrange,
        source,
        tmp_path / "file/set",
    )

    def denied(self, *args, **more):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(
        r"'.*\.downloads' cannot be read or written \(Permission denied\): free space, correct the "
        r"rights",
        arrange,
        source,
        tmp_path / "set",
    )
