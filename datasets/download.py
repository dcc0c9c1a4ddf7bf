"""The files of a data set: fetched with resume, mirrors and checksums, unpacked safely, and put in place.

What stands in place is always whole: downloads grow in `.downloads/<name>.part*`, archives are unpacked in `.unpacking-<name>`,
both in the data set's folder, and only what is complete is moved out of there.
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
EXPANSION, SMALL = (
    200,
    1 << 30,
)  # an archive that becomes more than 200 times as large, and more than 1 GB, is no data set
DATA_FILTER = (
    {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
)  # a second guard, in newer Pythons
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

    urls: tried in order, "http(s)://...", "gdrive:<file id>", "hf:<owner>/<repo>/<path>" (a model repository) or
    "hf:datasets/<owner>/<repo>/<path>". md5, size (bytes): of the file as downloaded, if known. unpack: {path inside the
    archive: its place below the data set's folder}; None: a plain file, kept as `name`. A path "" is the whole archive. A place
    "" is the folder itself, for what lies at the top, or in the one folder there if that is named like the data set's folder or the
    archive. inner: an archive inside the archive that holds what `unpack` names.
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
    """Path of the verified file, in `folder`/.downloads; a file that is there and right is kept.

    Raises UserError with the reason for each address when none works, or if the disk does not take the file.
    """
    target = folder / ".downloads" / source.name
    part, reasons = target.with_name(f"{source.name}.part"), []
    with _disk(folder):
        if target.is_file() and not _fault(target, source, progress):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        begun, _ = _origin(part)
        for url in sorted(
            source.urls, key=lambda url: url != begun
        ):  # what was broken off is gone on with before it is replaced
            try:
                found = (_from_http if url.startswith("http") else _from_library)(
                    source, url, part, progress
                )
                if fault := _fault(found, source, progress):
                    found.unlink()
                    raise _Failed(fault)
            except _Failed as error:
                reasons.append(f"{url} ({error})")
                continue
            os.replace(found, target)
            for left in target.parent.glob(f"{escape(part.name)}*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            return target
    what = (
        f"cannot be downloaded from {', '.join(reasons)}"
        if reasons
        else "has no address to download it from"
    )
    raise UserError(
        f"'{source.name}' {what}: fetch it by hand and put it at '{target}' or give it with --from FILE"
    )


def arrange(source: Source, folder: Path, given: Path | None = None, progress: bool = True) -> bool:
    """Puts what `folder` lacks of `source` in place; False, without any download, if it lacks nothing.

    given: instead of a download the file itself, or a folder with it at the top, or with what it unpacks to; it is checked,
    copied and kept. Raises UserError if the file cannot be had or is not the right one, for an archive that is broken, not safe
    to unpack or lacks a path, and if the disk does not take it.
    """
    with _disk(folder):
        wanted = _lacking(source, folder)
        if not wanted:
            return False
        found = None if given is None else _given(source, given, wanted, progress)
        with alone(folder):
            return _arrange(source, folder, found, progress)


def _lacking(source: Source, folder: Path) -> dict[str, str]:
    """{path in the archive: place} of what is not in its place."""
    places = {source.name: source.name} if source.unpack is None else source.unpack
    return {inside: place for inside, place in places.items() if not _there(folder, place, source)}


def _arrange(
    source: Source, folder: Path, given: Path | dict[str, Path] | None, progress: bool
) -> bool:
    """`arrange`, without what another process has put in place meanwhile; `given`: what `_given` found."""
    wanted, unpacking = _lacking(source, folder), folder / f".unpacking-{source.name}"
    if not wanted:
        return False
    found = fetch(source, folder, progress) if given is None else given
    if isinstance(found, dict):
        found = {place: path for place, path in found.items() if place in wanted.values()}
    shutil.rmtree(unpacking, ignore_errors=True)  # of a run that was killed
    try:
        unpacking.mkdir(parents=True)
        if isinstance(found, dict):
            moves = _copy(found, unpacking, progress)
        elif source.unpack is None:
            moves = {found: source.name}
        else:
            moves = _unpacked(source, found, wanted, unpacking, progress)
        for path, place in moves.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, folder / place)
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)
    if given is None:
        found.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            found.parent.rmdir()
    return True


def _fault(path: Path, source: Source, progress: bool) -> str:
    """What shows that a file is not the one wanted; "" if nothing does."""
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
    """Address and version (ETag or date, may be empty) of the file that a partial one is of."""
    url, _, version = (
        _mark(part).read_text().partition("\n") if _mark(part).is_file() else ("", "", "")
    )
    return url, version


def _from_http(source: Source, url: str, part: Path, progress: bool) -> Path:
    """With `requests`: gdown and huggingface_hub go on with a partial file without asking whether the one on the server is still the same."""
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
    """One connection. A partial file is gone on with if the server says, or the checksum will, that it is of the same file."""
    origin, version = _origin(part)
    held = _size(part) if origin == url and (version or source.md5) else 0
    asked = (
        {"Accept-Encoding": "identity"}
        | ({"Range": f"bytes={held}-"} if held else {})
        | ({"If-Range": version} if held and version else {})
    )
    with _library("requests").get(url, headers=asked, stream=True, timeout=TIMEOUT_S) as response:
        status, (span, length, etag, date) = (
            response.status_code,
            (
                response.headers.get(name, "")
                for name in ("Content-Range", "Content-Length", "ETag", "Last-Modified")
            ),
        )
        now = (
            date if etag.startswith("W/") else etag or date
        )  # a weak tag does not promise the same bytes
        if held and status == 416 and span == f"bytes */{held}":
            return  # whole, but the run was killed before it could say so
        if held and (
            status == 416
            or status == 206
            and (not span.startswith(f"bytes {held}-") or now not in ("", version))
        ):
            part.unlink()
            raise _Broken("the file on the server has changed")
        if status != 200 and not (held and status == 206):
            raise (_Broken if status in (408, 429) or status >= 500 else _Failed)(
                f"HTTP {status} {response.reason}"
            )
        held, total = (held, span.rpartition("/")[2]) if status == 206 else (0, length)
        total = int(total) if total.isdecimal() else None
        with (
            part.open("ab" if held else "wb") as file,
            tqdm(
                total=total,
                initial=held,
                unit="B",
                unit_scale=True,
                desc=source.name,
                disable=not progress,
            ) as bar,
        ):
            if not held:
                _mark(part).write_text(f"{url}\n{now}")
            for chunk in response.raw.stream(
                CHUNK, decode_content=False
            ):  # some servers call a .tar.gz an encoding of a tar
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise _Broken(f"{_size(part):,} bytes came instead of {total:,}")


def _from_library(source: Source, url: str, part: Path, progress: bool) -> Path:
    """From Google Drive and Hugging Face, through their libraries, which retry and resume."""
    scheme, _, address = url.partition(":")
    download = (
        _library("gdown").download
        if scheme == "gdrive"
        else _library("huggingface_hub").hf_hub_download
    )
    output = part.with_name(f"{part.name}.{scheme}")
    try:
        if scheme == "gdrive":
            download(
                id=address,
                output=str(output),
                quiet=not progress,
                resume=True,
                retries=TRIES - 1,
                timeout=TIMEOUT_S,
            )
            return output
        kind, address = (
            ("dataset", address.removeprefix("datasets/"))
            if address.startswith("datasets/")
            else ("model", address)
        )
        owner, repository, path = address.split("/", 2)
        return Path(
            download(
                f"{owner}/{repository}",
                path,
                repo_type=kind,
                local_dir=output,
                tqdm_class=partial(tqdm, disable=not progress),
            )
        )
    except Exception as error:
        if (
            isinstance(error, OSError)
            and error.errno
            and not isinstance(error, (ConnectionError, TimeoutError))
        ):
            raise  # of the disk
        if "byte range" in str(
            error
        ):  # gdown keeps a partial file that it cannot go on with, and would fail for ever
            for left in part.parent.glob(f"{escape(output.name)}*"):
                left.unlink()
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
            f"'{error.filename2 or error.filename or folder}' cannot be read or written ({_short(error)}): free space, correct the rights or "
            "choose another --root"
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
    """The archive that the user has, or {place: what is to be copied there}."""
    file = given / source.name if given.is_dir() else given
    if given.is_dir() and not file.is_file():
        for layout in (wanted.values(), wanted.keys()):
            if all(
                path and (given / path).exists() for path in layout
            ):  # "" would be all that lies in a folder of downloads
                return dict(zip(wanted.values(), (given / path for path in layout)))
        raise UserError(
            f"'{given}' does not hold {' or '.join(repr(path) for path in dict.fromkeys((source.name, *wanted)) if path)}: "
            "give the file or the right folder with --from"
        )
    if not file.is_file():
        raise UserError(f"'{given}' does not exist: correct --from")
    if fault := _fault(file, source, progress):
        raise UserError(f"'{file}' is not {source.name} ({fault}): get it again or correct --from")
    return {source.name: file} if source.unpack is None else file


def _copy(found: Mapping[str, Path], into: Path, progress: bool) -> dict[Path, str]:
    files = sum(len(files) for path in found.values() for _, _, files in os.walk(path)) or None
    with tqdm(total=files, desc="copy", unit="file", disable=not progress) as bar:

        def copy(origin, target):
            with _disk(target):  # copytree would go on with the next file, on a full disk too
                shutil.copyfile(origin, target)
            bar.update()

        copied = {into / str(number): place for number, place in enumerate(found)}
        for target, place in copied.items():
            shutil.copytree(found[place], target, copy_function=copy) if found[
                place
            ].is_dir() else copy(found[place], target)
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


def _unpack(archive: Path, wanted: Collection[str], into: Path, progress: bool) -> None:
    """What lies at or below the paths `wanted`. Raises UserError for a broken or unsafe archive and for a path that it lacks.

    Symbolic links are refused wherever they point: what is moved into place must be whole by itself, and nothing be written through one.
    """
    limit, found, top, total = max(SMALL, EXPANSION * _size(archive)), set(), set(), 0

    def take(name: str, size: int, plain: bool) -> bool:
        nonlocal total
        total += size
        why = (
            "is a link or a device"
            if not plain
            else "leads out of the folder"
            if _leads_out(name)
            else f"makes more than {limit:,} bytes of {_size(archive):,}"
            if total > limit
            else ""
        )
        if why:
            raise UserError(
                f"'{archive}' is not unpacked because '{name}' in it {why}: get it from another source"
            )
        name = posixpath.normpath(name)
        if name == "." or name.split("/")[0] == "__MACOSX":
            return False
        top.add(name.split("/")[0])
        above = {path for path in wanted if path in ("", name) or name.startswith(path + "/")}
        found.update(above)
        return bool(above)

    try:
        with _reading(archive, "unpack", progress) as file:
            if _is_tar(archive):  # first: a tar that ends with a zip passes for a zip
                with tarfile.open(fileobj=file, errorlevel=2) as tar:
                    for member in tar:
                        if take(
                            member.name,
                            member.size,
                            member.isreg()
                            or member.isdir()
                            or member.islnk()
                            and not _leads_out(member.linkname),
                        ):
                            tar.extract(member, into, set_attrs=False, **DATA_FILTER)
                    # tarfile takes what is no header for the end of the archive, and gzip looks at its checksum where the file ends
                    if tar.fileobj.tell() - tar.offset != tarfile.BLOCKSIZE or tar.fileobj.read(
                        tarfile.BLOCKSIZE
                    ).strip(b"\0"):
                        raise tarfile.ReadError("it is cut short or damaged")
                    while tar.fileobj.read(CHUNK):
                        pass
            else:
                with zipfile.ZipFile(file) as zipped:
                    kinds = (
                        (info, stat.S_IFMT(info.external_attr >> 16)) for info in zipped.infolist()
                    )
                    for info in [
                        info
                        for info, kind in kinds
                        if take(
                            info.filename, info.file_size, kind in (0, stat.S_IFREG, stat.S_IFDIR)
                        )
                    ]:
                        zipped.extract(info, into)
    except UserError:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(
            f"'{archive}' cannot be unpacked ({_short(error)}): delete it and get it again"
        ) from None
    if lacking := [path for path in wanted if path not in found]:
        raise UserError(
            f"'{archive}' lacks '{lacking[0]}' (at its top: {', '.join(sorted(top)[:5]) or 'nothing'}): it is not the right archive"
        )


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\\" in name or name[1:2] == ":" or ".." in name.split("/")


def _is_tar(path: Path) -> bool:
    with contextlib.suppress(EOFError, zlib.error):
        return tarfile.is_tarfile(path)
    return False
