"""The files of a data set: fetched with resume, mirrors and checksums, unpacked safely, and put in
place.

What stands in place is always whole: downloads grow in `.downloads/<name>.part*`, archives are
unpacked in `.unpacking-<name>`, both in the data set's folder, and only what is complete is moved
out of there.
"""

import contextlib
import hashlib
import importlib
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path

from tqdm import tqdm

from datasets.errors import UserError
from datasets.locks import alone

CHUNK = 1 << 17
TRIES = 4  # connections in a row that bring nothing new
WAIT_S = 2.0
TIMEOUT_S = 30
# An archive that becomes more than 200 times as large, and more than 1 GB, is no data set.
EXPANSION, SMALL = 200, 1 << 30
# A second guard, in newer Pythons.
DATA_FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    OSError,
)


@dataclass(frozen=True)
class Source:
    """One file that a data set is made of: an archive or a plain file.

    urls: tried in order; "http(s)://...", "gdrive:<file id>", "hf:<owner>/<repo>/<path>" (a model
    repository) or "hf:datasets/<owner>/<repo>/<path>". md5, size (bytes): of the file as
    downloaded, if known. unpack: {path inside the archive: destination below the data set's
    folder}; None: a plain file, kept as `name`. A path "" is the whole archive. An empty
    destination unpacks into the data set's folder; a single top-level folder named like the data
    set or the archive is stripped. inner: an archive inside the archive, which holds the paths of
    `unpack`.
    """

    name: str
    urls: tuple[str, ...] = ()
    md5: str = ""
    size: int = 0
    unpack: Mapping[str, str] | None = None
    inner: str = ""


class _Failed(Exception):
    """Why an address is given up, in a few words."""


class _Broken(Exception):
    """What broke a connection that is worth another try."""


def fetch(source: Source, folder: Path, progress: bool = True) -> Path:
    """Return the path of the verified file in `folder`/.downloads; a correct file there is kept.

    Raises UserError with the reason for each address if none works, or if the disk refuses the
    file.
    """
    target = folder / ".downloads" / source.name
    part, reasons = target.with_name(f"{source.name}.part"), []
    with _disk(folder):
        if target.is_file() and not _fault(target, source, progress):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        begun, _ = _origin(part)
        # The address of a partial file comes first: another one would replace that file.
        for url in sorted(source.urls, key=lambda url: url != begun):
            receive = _from_http if url.startswith("http") else _from_library
            try:
                received = receive(source, url, part, progress)
                if fault := _fault(received, source, progress):
                    received.unlink()
                    raise _Failed(fault)
            except _Failed as error:
                reasons.append(f"{url} ({error})")
                continue
            os.replace(received, target)
            for rest in target.parent.glob(f"{escape(part.name)}*"):
                shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
            return target
    what = (
        f"cannot be downloaded from {', '.join(reasons)}"
        if reasons
        else "has no address to download it from"
    )
    raise UserError(
        f"'{source.name}' {what}: fetch it by hand and put it at '{target}' or give it with --from "
        "FILE"
    )


def arrange(source: Source, folder: Path, given: Path | None = None, progress: bool = True) -> bool:
    """Put in place what `folder` lacks of `source`; False, without a download, if it lacks nothing.

    given: replaces the download. It is the file, a folder that holds the file, or a folder that
    holds the unpacked content; it is checked, copied and kept. Raises UserError if the file cannot
    be downloaded or is another one, if the archive is broken, unsafe or incomplete, and if the disk
    refuses it.
    """
    with _disk(folder):
        wanted = _lacking(source, folder)
        if not wanted:
            return False
        offer = None if given is None else _given(source, given, wanted, progress)
        with alone(folder):
            return _arrange(source, folder, offer, progress)


def _lacking(source: Source, folder: Path) -> dict[str, str]:
    """{path in the archive: place} of what is not in its place."""
    places = {source.name: source.name} if source.unpack is None else source.unpack
    return {inside: place for inside, place in places.items() if not _there(folder, place, source)}


def _arrange(
    source: Source, folder: Path, offer: Path | dict[str, Path] | None, progress: bool
) -> bool:
    """`arrange`, without what another process has put in place meanwhile; offer: from `_given`."""
    wanted, unpacking = _lacking(source, folder), folder / f".unpacking-{source.name}"
    if not wanted:
        return False
    origin = fetch(source, folder, progress) if offer is None else offer
    shutil.rmtree(unpacking, ignore_errors=True)  # of a run that was killed
    try:
        unpacking.mkdir(parents=True)
        if isinstance(origin, dict):
            lacking = {place: path for place, path in origin.items() if place in wanted.values()}
            moves = _copy(lacking, unpacking, progress)
        elif source.unpack is None:
            moves = {origin: source.name}
        else:
            moves = _unpacked(source, origin, wanted, unpacking, progress)
        for path, place in moves.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / place)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    if offer is None:
        origin.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            origin.parent.rmdir()
    return True


def _fault(path: Path, source: Source, progress: bool) -> str:
    """Why a file cannot be the one of `source`, in a few words; "" if nothing speaks against it."""
    with path.open("rb") as file:
        if file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return "a web page instead of the file"
    if source.size and _size(path) != source.size:
        return f"{_size(path):,} bytes instead of {source.size:,}"
    if source.md5:
        md5 = hashlib.md5(usedforsecurity=False)
        with _reading(path, "check", progress, delay=2) as file:
            while chunk := file.read(CHUNK):
                md5.update(chunk)
        if md5.hexdigest() != source.md5:
            return f"checksum {md5.hexdigest()} instead of {source.md5}"
    return (
        ""
        if source.unpack is None or _is_tar(path) or zipfile.is_zipfile(path)
        else "not a whole zip or tar archive"
    )


# Downloading


def _mark(part: Path) -> Path:
    return part.with_name(f"{part.name}.from")


def _origin(part: Path) -> tuple[str, str]:
    """(address, version) of a partial file; the version is an ETag or a date, and may be empty."""
    url, _, version = (
        _mark(part).read_text().partition("\n") if _mark(part).is_file() else ("", "", "")
    )
    return url, version


def _from_http(source: Source, url: str, part: Path, progress: bool) -> Path:
    """Download with `requests`, in as many connections as it takes.

    gdown and huggingface_hub resume without checking that the remote file is unchanged.
    """
    requests, errors = _library("requests").exceptions, _library("urllib3").exceptions
    tries, most = 0, _size(part) if _origin(part)[0] == url else 0
    while True:
        try:
            _receive(source, url, part, progress)
            return part
        except (requests.ConnectionError, requests.Timeout, errors.HTTPError, _Broken) as error:
            tries, most = 0 if _size(part) > most else tries + 1, max(most, _size(part))
            if tries == TRIES:
                raise _Failed(_short(error)) from None
        except requests.RequestException as error:
            raise _Failed(_short(error)) from None
        time.sleep(WAIT_S)


def _receive(source: Source, url: str, part: Path, progress: bool) -> None:
    """Make one connection, which starts or resumes a partial file.

    Resume a partial file only if the server's version tag matches, or a checksum will verify the
    result. Raises _Broken if another connection may help, _Failed if not.
    """
    origin, version = _origin(part)
    held = _size(part) if origin == url and (version or source.md5) else 0
    asked = {"Accept-Encoding": "identity"}
    if held:
        asked["Range"] = f"bytes={held}-"
        if version:
            asked["If-Range"] = version
    with _library("requests").get(url, headers=asked, stream=True, timeout=TIMEOUT_S) as response:
        headers, status = response.headers, response.status_code
        etag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
        current = date if etag.startswith("W/") else etag or date  # a weak tag promises no bytes
        span = headers.get("Content-Range", "")
        if held and status == 416 and span == f"bytes */{held}":
            return  # whole, but an earlier run was killed before it could note that
        if held and _is_another(status, span, held, current, version):
            part.unlink()
            raise _Broken("the file on the server has changed")
        if status != 200 and not (held and status == 206):
            passing = status in (408, 429) or status >= 500
            raise (_Broken if passing else _Failed)(f"HTTP {status} {response.reason}")
        if status != 206:
            held = 0
            part.unlink(missing_ok=True)
            _mark(part).write_text(f"{url}\n{current}")
        length = span.rpartition("/")[2] if held else headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        _append(response, part, total, source.name if progress else "")
    if total is not None and _size(part) != total:
        raise _Broken(f"{_size(part):,} bytes came instead of {total:,}")


def _is_another(status: int, span: str, held: int, current: str, version: str) -> bool:
    """Whether an answer to the request for the rest of a file shows that the file has changed."""
    if status == 416:
        return True
    continues = span.startswith(f"bytes {held}-") and current in ("", version)
    return status == 206 and not continues


def _append(response, part: Path, total: int | None, title: str) -> None:
    """Append the body of a response to a file, with a bar unless `title` is empty."""
    with (
        part.open("ab") as file,
        tqdm(
            total=total,
            initial=_size(part),
            unit="B",
            unit_scale=True,
            desc=title,
            disable=not title,
        ) as bar,
    ):
        # Not decoded: some servers call a .tar.gz an encoding of a tar.
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)
            bar.update(len(chunk))


def _from_library(source: Source, url: str, part: Path, progress: bool) -> Path:
    """From Google Drive and Hugging Face, through their libraries, which retry and resume."""
    scheme, _, address = url.partition(":")
    output = part.with_name(f"{part.name}.{scheme}")
    try:
        if scheme == "gdrive":
            _library("gdown").download(
                id=address,
                output=str(output),
                quiet=not progress,
                resume=True,
                retries=TRIES - 1,
                timeout=TIMEOUT_S,
            )
            return output
        kind = "dataset" if address.startswith("datasets/") else "model"
        owner, repository, path = address.removeprefix("datasets/").split("/", 2)
        return Path(
            _library("huggingface_hub").hf_hub_download(
                f"{owner}/{repository}",
                path,
                repo_type=kind,
                local_dir=output,
                tqdm_class=partial(tqdm, disable=not progress),
            )
        )
    except _Failed:
        raise
    except Exception as error:
        of_network = isinstance(error, (ConnectionError, TimeoutError))
        if isinstance(error, OSError) and error.errno and not of_network:
            raise  # of the disk
        # gdown keeps a partial file that it cannot resume, and would fail for ever.
        if "byte range" in str(error):
            for rest in part.parent.glob(f"{escape(output.name)}*"):
                rest.unlink()
        raise _Failed(_short(error)) from None


def _library(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _Failed(f"needs the package {name}: run `pip install {name}`") from None


def _short(error: BaseException) -> str:
    """The innermost cause on one line: libraries wrap it into pages."""
    while (
        not getattr(error, "strerror", None)
        and (inner := error.__cause__ or error.__context__)
        and not isinstance(inner, UserError)
    ):
        error = inner  # a UserError there is one that the caller was handling
    return " ".join(
        (getattr(error, "strerror", None) or str(error) or type(error).__name__).split()
    )[:150]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextlib.contextmanager
def _disk(folder: Path):
    try:
        yield
    except OSError as error:
        raise UserError(
            f"'{error.filename2 or error.filename or folder}' cannot be read or written "
            f"({_short(error)}): free space, correct the rights or choose another --root"
        ) from None


@contextlib.contextmanager
def _reading(path: Path, what: str, progress: bool, **options):
    """The open file, with a bar of how much of it was read."""
    with (
        path.open("rb") as raw,
        tqdm.wrapattr(
            raw,
            "read",
            total=_size(path),
            desc=f"{what} {path.name}",
            disable=not progress,
            **options,
        ) as file,
    ):
        yield file


# Putting in place


def _listing(folder: Path, source: Source) -> Path:
    """Names of what an archive has put into the folder itself."""
    return folder / ".downloads" / f"{source.name}.places"


def _there(folder: Path, place: str, source: Source) -> bool:
    listing = _listing(folder, source)
    names = [place] if place else listing.read_text().splitlines() if listing.is_file() else []
    return bool(names) and all((folder / name).exists() for name in names)


def _given(
    source: Source, given: Path, wanted: Mapping[str, str], progress: bool
) -> Path | dict[str, Path]:
    """Return the user's archive, or {place: what to copy there}.

    Raises UserError if neither is in `given`.
    """
    file = given / source.name if given.is_dir() else given
    if given.is_dir() and not file.is_file():
        for layout in (wanted.values(), wanted.keys()):
            # "" would be all that lies in a folder of downloads.
            if all(path and (given / path).exists() for path in layout):
                return dict(zip(wanted.values(), (given / path for path in layout)))
        names = " or ".join(repr(path) for path in dict.fromkeys((source.name, *wanted)) if path)
        raise UserError(
            f"'{given}' does not hold {names}: give the file or the right folder with --from"
        )
    if not file.is_file():
        raise UserError(f"'{given}' does not exist: correct --from")
    if fault := _fault(file, source, progress):
        raise UserError(f"'{file}' is not {source.name} ({fault}): get it again or correct --from")
    return {source.name: file} if source.unpack is None else file


def _copy(origins: Mapping[str, Path], into: Path, progress: bool) -> dict[Path, str]:
    """Copy {place: file or folder} below `into` -> {path of the copy: place}."""
    count = sum(len(files) for path in origins.values() for _, _, files in os.walk(path)) or None
    with tqdm(total=count, desc="copy", unit="file", disable=not progress) as bar:

        def copy(origin, target):
            with _disk(target):  # copytree would go on with the next file, on a full disk too
                shutil.copyfile(origin, target)
            bar.update()

        copied = {into / str(number): place for number, place in enumerate(origins)}
        for target, place in copied.items():
            if origins[place].is_dir():
                shutil.copytree(origins[place], target, copy_function=copy)
            else:
                copy(origins[place], target)
    return copied


def _unpacked(
    source: Source, archive: Path, wanted: Mapping[str, str], into: Path, progress: bool
) -> dict[Path, str]:
    """{path of what is unpacked: its place}."""
    if source.inner:
        _unpack(archive, [source.inner], into / "outer", progress)
        archive = into / "outer" / source.inner
    _unpack(archive, wanted, into / "content", progress)
    moves = {into / "content" / inside: place for inside, place in wanted.items() if place}
    for top in [into / "content" / inside for inside, place in wanted.items() if not place]:
        entries = list(top.iterdir())
        if (
            len(entries) == 1
            and entries[0].is_dir()
            and entries[0].name in (into.parent.name, Path(source.name).stem)
        ):
            entries = list(entries[0].iterdir())
        listing = _listing(into.parent, source)
        listing.parent.mkdir(exist_ok=True)
        listing.write_text("\n".join(entry.name for entry in entries))
        moves |= {entry: entry.name for entry in entries if not (into.parent / entry.name).exists()}
    return moves


class _Selection:
    """Which members of an archive are unpacked, and whether they are safe.

    Symbolic links are refused wherever they point: what is moved into place must be whole by
    itself, and nothing may be written through a link.
    """

    def __init__(self, archive: Path, wanted: Collection[str]):
        self.archive, self.wanted = archive, wanted
        self.limit = max(SMALL, EXPANSION * _size(archive))  # bytes
        self.bytes = 0
        self.seen: set[str] = set()  # of `wanted`
        self.top: set[str] = set()  # names at the top of the archive

    def take(self, name: str, size: int, plain: bool) -> bool:
        """Whether to unpack the member `name` of `size` bytes; plain: it is a file or a folder.

        Raises UserError if the member is unsafe.
        """
        self.bytes += size
        why = ""
        if not plain:
            why = "is a link or a device"
        elif _leads_out(name):
            why = "leads out of the folder"
        elif self.bytes > self.limit:
            why = f"makes more than {self.limit:,} bytes of {_size(self.archive):,}"
        if why:
            raise UserError(
                f"'{self.archive}' is not unpacked because '{name}' in it {why}: get it from "
                "another source"
            )
        name = posixpath.normpath(name)
        if name == "." or name.split("/")[0] == "__MACOSX":
            return False
        self.top.add(name.split("/")[0])
        above = {path for path in self.wanted if path in ("", name) or name.startswith(path + "/")}
        self.seen |= above
        return bool(above)

    def check_complete(self) -> None:
        """Raise UserError if the archive lacks one of the wanted paths."""
        if lacking := [path for path in self.wanted if path not in self.seen]:
            top = ", ".join(sorted(self.top)[:5]) or "nothing"
            raise UserError(
                f"'{self.archive}' lacks '{lacking[0]}' (at its top: {top}): it is not the right "
                "archive"
            )


def _unpack(archive: Path, wanted: Collection[str], into: Path, progress: bool) -> None:
    """Unpack what lies at or below the paths `wanted`.

    Raises UserError for a broken or unsafe archive and for a path that it lacks.
    """
    selection = _Selection(archive, wanted)
    try:
        with _reading(archive, "unpack", progress) as file:
            # A tar that ends with a zip passes for a zip, so that this question comes first.
            (_unpack_tar if _is_tar(archive) else _unpack_zip)(file, selection, into)
    except UserError:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(
            f"'{archive}' cannot be unpacked ({_short(error)}): delete it and get it again"
        ) from None
    selection.check_complete()


def _unpack_tar(file, selection: _Selection, into: Path) -> None:
    with tarfile.open(fileobj=file, errorlevel=2) as tar:
        for member in tar:
            hard_link = member.islnk() and not _leads_out(member.linkname)
            plain = member.isreg() or member.isdir() or hard_link
            if selection.take(member.name, member.size, plain):
                tar.extract(member, into, set_attrs=False, **DATA_FILTER)
        # tarfile takes a block that is no header for the end of the archive, and gzip compares its
        # checksum where the file ends.
        stream = tar.fileobj
        at_the_end = stream.tell() - tar.offset == tarfile.BLOCKSIZE
        if not at_the_end or stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("it is cut short or damaged")
        while stream.read(CHUNK):
            pass


def _unpack_zip(file, selection: _Selection, into: Path) -> None:
    with zipfile.ZipFile(file) as zipped:
        chosen = []
        for info in zipped.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if selection.take(
                info.filename, info.file_size, kind in (0, stat.S_IFREG, stat.S_IFDIR)
            ):
                chosen.append(info)
        for info in chosen:
            zipped.extract(info, into)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or name[1:2] == ":" or ".." in name.split("/")


def _is_tar(path: Path) -> bool:
    with contextlib.suppress(EOFError, zlib.error):
        return tarfile.is_tarfile(path)
    return False
