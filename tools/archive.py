"""A whole study in one small file: `python -m tools.archive pack|unpack ...`.

    python -m tools.archive pack OUTPUT FILE.tar.xz      # of all finished runs below OUTPUT
    python -m tools.archive unpack FILE.tar.xz OUTPUT [--root DATA]

An archive holds the record of each run and which class each image was given: all that tables,
intervals and a sweep need, so that tables are made again without a run and a sweep goes on where
another machine stopped. It leaves out checkpoints, logs and scores: models that are to be tested
further, calibration and ensembles need the runs themselves. What lies below the study, the data
sets or the repository is named from there; other paths stay, with a note.

`unpack` changes nothing that is there: runs that OUTPUT has already are left alone, and a different
run in one of the folders stops it before the first file is written.
"""

import argparse
import io
import json
import lzma
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from dassl import files, outcomes, record
from tools import inputs
from tools.arguments import Parser
from tools.configs import ROOT
from tools.inputs import InputError
from tools.protocols.rows import run_files
from tools.sweep import add_root

FORMAT = 1
HEAD = "archive.json"  # the first member
SUFFIX = ".tar.xz"
KEPT_SPLITS = ("test", "val", "train")
MEMBERS = (record.NAME, files.CHECKSUMS, *(outcomes.place("", one).name for one in KEPT_SPLITS))
# Written last: a folder with results.json has all that belongs to it.
LAST = record.NAME
# What stands for folders of the machine: the study, the data sets, this repository.
OUTPUT, DATA, REPOSITORY = "{OUTPUT}", "{DATA}", "{REPOSITORY}"
MOST = 64 * 2**20  # bytes of a member; a record has some ten thousand
Contents = dict[str, dict[str, bytes]]


# Paths of a machine


def _replaced(node, folders: list[tuple[str, str]]):
    """JSON whose texts that begin with a folder begin with what stands for it, or back."""
    if isinstance(node, dict):
        return {key: _replaced(value, folders) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, folders) for value in node]
    if isinstance(node, str):
        for folder, other in folders:
            if node == folder or node.startswith(f"{folder}/"):
                return other + node[len(folder) :]
    return node


def _paths(node) -> Iterator[str]:
    """The absolute paths in a record."""
    if isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _paths(value)
    elif isinstance(node, str) and os.path.isabs(node):
        yield node


def _portable(known: dict, folder: Path) -> dict:
    """A record without paths of this machine. folder: of the run, relative to the study.

    The study's folder is where the run says that it wrote, since it may have been moved.
    """
    config = known["config"]
    wrote, own = config.get("OUTPUT_DIR", ""), f"/{folder.as_posix()}"
    root = config["DATASET"].get("ROOT", "")
    study = wrote.removesuffix(own) if wrote.endswith(own) else ""
    named = [(study, OUTPUT), (files.absolute(root) if root else "", DATA), (root, DATA)]
    return _replaced(known, [pair for pair in [*named, (str(ROOT), REPOSITORY)] if pair[0]])


# Packing


def _members(folder: Path, known: dict, top: Path) -> dict[str, bytes]:
    """{name: content} of a run. Raises UserError for outcomes that are not the run's."""
    found = {record.NAME: files.json_text(_portable(known, folder.relative_to(top)))}
    if record.is_training(known):
        epoch = record.tested_epoch(known)
        if checksum := files.model_checksum(str(folder), epoch):
            found[files.CHECKSUMS] = files.json_text({files.checkpoint_name(epoch): checksum})
    for split in KEPT_SPLITS:
        if outcomes.place(folder, split).is_file():
            found[outcomes.place("", split).name] = outcomes.brief(folder, split, known)
    return found


def _study(top: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(folder relative to the study, its members) of each finished run."""
    for _, path in tqdm(list(run_files([top])), unit="run", desc="pack", leave=False, disable=None):
        try:
            known = record.read(path)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"'{path}' is not readable as results ({error}): delete it or run it again"
            ) from None
        if known["complete"] is True:
            folder = path.parent
            yield folder.relative_to(top).as_posix(), _members(folder, known, top)


def pack(top: Path, target: Path) -> tuple[int, list[str]]:
    """(runs, absolute paths inside): write the archive `target` of the finished runs below `top`.

    The same runs give the same bytes. Raises InputError if there is none, or for a damaged one.
    """
    inputs.check_outputs([inputs.Output("FILE", target)])
    if not target.name.endswith(SUFFIX):
        raise InputError(f"FILE is '{target}': give a name that ends in {SUFFIX}")
    study = dict(_study(top))
    if not study:
        raise InputError(f"'{top}' holds no finished run: give the output folder of a sweep")

    def save(path: Path) -> None:
        with lzma.open(path, "wb", preset=9) as stream, tarfile.open(fileobj=stream, mode="w") as t:
            _add(t, HEAD, files.json_text({"format": FORMAT, "runs": len(study)}))
            # Members of one name one after the other: they are alike, and compress well.
            for name in MEMBERS:
                for folder in sorted(study):
                    if name in study[folder]:
                        _add(t, f"{folder}/{name}", study[folder][name])

    inputs.write(target, save, "FILE")
    records = (json.loads(members[LAST]) for members in study.values())
    return len(study), sorted({path for known in records for path in _paths(known)})


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))


# Unpacking


def read(path: Path) -> Contents:
    """{folder: {name: content}}. Raises InputError for a file that `pack` did not write."""
    damaged = f"'{path}' is not a whole archive of tools.archive"
    found: Contents = {}
    try:
        with lzma.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            about = _about(path, archive)
            for member in archive.getmembers()[1:]:
                place = PurePosixPath(member.name)
                folder, name = place.parent.as_posix(), place.name
                inside = not place.is_absolute() and ".." not in place.parts
                if not inside or name not in MEMBERS or folder == ".":
                    raise InputError(f"{damaged}: it holds '{member.name}'")
                found.setdefault(folder, {})[name] = _content(archive, member)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error})") from None
    except (lzma.LZMAError, tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(f"{damaged} ({error}): fetch it again") from None
    whole = [folder for folder, names in found.items() if LAST in names]
    if len(whole) != about["runs"] or len(whole) < len(found):
        raise InputError(f"{damaged} ({len(whole)} of {about['runs']} runs): fetch it again")
    return found


def _about(path: Path, archive: tarfile.TarFile) -> dict:
    """What the first member tells. Raises InputError for another format."""
    first = archive.next()
    about = json.loads(_content(archive, first)) if first and first.name == HEAD else {}
    if about.get("format") != FORMAT:
        raise InputError(
            f"'{path}' has format {about.get('format')} and this version reads format {FORMAT}: "
            "use the version that wrote it"
        )
    return about


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Raises ValueError for what is no file, or too large for one."""
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None or member.size > MOST:
        raise ValueError(f"'{member.name}' is no file of a run")
    return stream.read()


def unpack(path: Path, top: Path, root: str) -> tuple[int, int]:
    """(runs written, runs that were there). Raises InputError, before anything is written, for a
    damaged archive, and for a folder that holds another run.
    """
    study = read(path)
    folders = [(OUTPUT, files.absolute(str(top))), (DATA, root), (REPOSITORY, str(ROOT))]
    for members in study.values():
        members[LAST] = files.json_text(_replaced(json.loads(members[LAST]), folders))
    new = {folder: members for folder, members in study.items() if not _is_there(top, folder)}
    for folder in study.keys() - new.keys():
        there = record.peek(top / folder / LAST)
        ours = record.as_now(json.loads(study[folder][LAST]))
        keys = ("config_hash", "loaded", "began_from", "complete", "metrics")
        if different := [key for key in keys if there.get(key) != ours.get(key)]:
            raise InputError(
                f"'{top / folder / LAST}' is of another run than the archive's ({different[0]} "
                "differs): choose another OUTPUT"
            )
    inputs.make_folder(top, "choose another OUTPUT")
    for folder, members in tqdm(new.items(), unit="run", desc="unpack", leave=False, disable=None):
        inputs.make_folder(top / folder, "choose another OUTPUT")
        for name in sorted(members, key=LAST.__eq__):
            inputs.write(top / folder / name, members[name], "OUTPUT")
    return len(new), len(study) - len(new)


def _is_there(top: Path, folder: str) -> bool:
    return os.path.lexists(top / folder / LAST)


# The program


def work(args: argparse.Namespace) -> int:
    if args.command == "pack":
        runs, paths = pack(args.output, args.file)
        size = args.file.stat().st_size / 2**20
        sys.stdout.write(f"{args.file}: {runs:,} runs, {size:.2f} MiB\n")
        if paths:
            sys.stderr.write(
                f"note: {len(paths)} path(s) of this machine are in the archive: "
                f"{', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}\n"
            )
        return 0
    written, there = unpack(args.file, args.output, files.absolute(args.root))
    sys.stdout.write(f"{args.output}: {written:,} runs written, {there:,} were there\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m tools.archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="pack|unpack")
    packing = commands.add_parser("pack", help="write FILE of the finished runs below OUTPUT")
    packing.add_argument("output", type=inputs.path, metavar="OUTPUT")
    packing.add_argument("file", type=inputs.path, metavar=f"FILE{SUFFIX}")
    unpacking = commands.add_parser("unpack", help="write the runs of FILE below OUTPUT")
    unpacking.add_argument("file", type=inputs.path, metavar=f"FILE{SUFFIX}")
    unpacking.add_argument("output", type=inputs.path, metavar="OUTPUT")
    add_root(unpacking, "where the data sets are, or will be")
    return inputs.main(work, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
