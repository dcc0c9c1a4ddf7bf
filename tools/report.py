"""One page with everything that was run: `python -m tools.report OUTPUT ... [--out page.html]`.

For each protocol with finished runs below the folders: table, gains over the baselines, pictures;
then the jobs of sweeps that failed, pictures given with --figures, the configurations, versions,
seeds and how long it took. The file needs nothing else, neither network nor other files.
"""

import argparse
import base64
import datetime
import html
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dassl import record
from tools import inputs, launchers, plots, results
from tools.gains import Gain
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol
from tools.protocols.rows import run_files, run_of

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6rem; } h3 { font-size: 1rem; }
h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 1px solid #ddd; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  margin: .8rem 0; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; } .text { text-align: left; }
th { border-bottom: 2px solid #444; }
tr.new td { border-top: 1px solid #bbb; } tr:hover td { background: #f3f6fa; }
.up { color: #14743c; font-weight: 600; } .down { color: #a4262c; font-weight: 600; }
details .inside { margin-left: 1.2rem; } img { max-width: 100%; }
.note { color: #555; font-size: 13px; }
pre { font-size: 12px; background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""


TEXT = ("data set", "trainer", "config", "folder", "reason", "")  # columns that hold no numbers
MARKS = {"gain": "up", "loss": "down"}  # style of a verdict


def cell(text: str, column: str, mark: str = "") -> str:
    """A table cell; mark: its style."""
    kind = mark or ("text" if column in TEXT else "")
    return (
        f'<td class="{kind}">{html.escape(text)}</td>' if kind else f"<td>{html.escape(text)}</td>"
    )


def table(head: list[str], lines: list[list[str]], marks: Sequence[dict[str, str]] = ()) -> str:
    """An HTML table. marks: {column: style} of each line."""
    body, before = [], None
    for line, mark in zip(lines, marks or [{}] * len(lines), strict=True):
        cells = (
            cell(text, column, mark.get(column, ""))
            for text, column in zip(line, head, strict=True)
        )
        body.append(f"<tr{' class=new' if line[0] != before else ''}>" + "".join(cells) + "</tr>")
        before = line[0]
    top = "".join(
        f'<th class="text">{html.escape(name)}</th>'
        if name in TEXT
        else f"<th>{html.escape(name)}</th>"
        for name in head
    )
    return f'<div class="wide"><table><tr>{top}</tr>' + "\n".join(body) + "</table></div>"


def picture(path: Path, name: str) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{image}"></p>'


@dataclass(frozen=True)
class Run:
    """A complete run. top: the folder that was given; path: its results.json, below."""

    top: Path
    path: Path
    results: dict


def runs_of(folders: list[Path]) -> dict[Path, Run]:
    """{resolved folder of the run: run}."""
    runs = {}
    for top, path in run_files(folders):
        try:
            results = record.read(path)
        except (OSError, ValueError, RecursionError):
            continue  # `collect` names it
        if results["complete"]:
            runs[path.resolve().parent] = Run(top, path, results)
    return runs


def shown(run: Run) -> dict:
    """{KEY: value} of what a run's results depend on, as the configuration writes it."""
    return {
        key: value
        for key, (_, value) in record.settings(run.results["config"]).items()
        if key != "VERSION"
    }


def nested(flat: dict) -> dict:
    """{KEY: {KEY: value}} of {KEY.KEY: value}."""
    tree: dict = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def configuration(run: Run, runs: dict[Path, Run]) -> str:
    """The configuration of a run as YAML; of a test, what differs from its model's training."""
    values, loaded, remark = shown(run), run.results.get("loaded") or {}, ""
    trained = (run.path.parent / loaded.get("model_dir", "")).resolve()
    if loaded.get("model_dir") and trained in runs:
        before = shown(runs[trained])
        values = {
            key: value for key, value in values.items() if key not in before or before[key] != value
        }
        epoch = "the best epoch" if loaded.get("epoch") is None else f"epoch {loaded['epoch']}"
        folder = loaded["model_dir"].strip("./").rpartition("/seed")[0]
        remark = f"# tests {epoch} of {folder}; as there, but for\n"
    text = yaml.safe_dump(nested(values), sort_keys=True, default_flow_style=None, width=140)
    return remark + text


def configurations(protocol: Protocol, runs: dict[Path, Run]) -> str:
    """Each configuration of the protocol's runs, with the folders and seeds that have it."""
    import trainers  # noqa: F401 - says which options a trainer reads

    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    texts: dict[tuple[str, str], str] = {}
    for run in runs.values():
        described = run_of(protocol, run.top, run.path)
        if described is None:
            continue
        folder = protocol.folder(described).rpartition("/")[0]
        content = record.comparable(run.results) + str(record.data_of(run.results))
        seeds[folder, content].append(described.seed)
        if (folder, content) not in texts:
            texts[folder, content] = configuration(run, runs)
    titles = {
        key: f"{key[0]}, seeds {', '.join(map(str, sorted(numbers)))}"
        for key, numbers in seeds.items()
    }
    return "\n".join(
        f"<details><summary>{html.escape(titles[key])}</summary><pre>{html.escape(text)}</pre></details>"
        for key, text in sorted(texts.items())
    )


def failures(folders: list[Path]) -> list[list[str]]:
    """[folder, reason] of failed jobs of sweeps that nobody has run again since."""
    failed = []
    for top, path in run_files(folders, launchers.MARK):
        marked, folder = launchers.read(path), path.parent
        if launchers.read(folder / launchers.RESULTS).get("complete") is True or launchers.locked(
            path
        ):
            continue
        if (
            marked.get("state") == "failed"
            or marked.get("state") == "running"
            and not marked.get("slurm")
        ):
            failed.append(
                [folder.relative_to(top).as_posix(), str(marked.get("error") or launchers.NO_WORD)]
            )
    return failed


def facts(runs: list[dict]) -> str:
    """A table of versions, devices, seeds and times."""
    lists: dict[str, set] = defaultdict(set)
    for run in runs:
        lists["device"].add(str(run.get("device", "?")))
        lists["seeds"].add(run.get("seed", "?"))
        for name, version in (run.get("versions") or {}).items():
            lists[name].add(str(version))
    hours = sum(run.get("wall_time_s") or 0 for run in runs) / 3600
    started = [run["started"] for run in runs if run.get("started")]
    rows = [
        ["runs", f"{len(runs):,}"],
        ["time of all runs together", f"{hours:.1f} h"],
        [
            "first started, last finished",
            f"{min(started, default='?')}, "
            f"{max((run.get('finished') or '' for run in runs), default='?')}",
        ],
        *[
            [name, ", ".join(map(str, sorted(values, key=str)))]
            for name, values in sorted(lists.items())
        ],
    ]
    return table(["", ""], rows)


NOTE_ON_GAINS = (
    "<h3>Gain of CRAFT over its baseline</h3><p class=note>Paired over seeds, mean [95% interval]; "
    "coloured where the verdict is gain or loss.</p>"
)


def part(protocol: Protocol, content: results.Tables) -> str:
    """The part of a page on one protocol: pictures, gains, accuracies, notes."""
    texts = [f"<h2 id={protocol.name}>{html.escape(protocol.title)}</h2>"]
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "plot.png"
        plots.plot(content.rows, content.columns, drawn)
        texts.append(picture(drawn, protocol.title))
        if content.gaining:
            plots.gains(content.gaining, content.gains, content.verdict, drawn)
            texts += [NOTE_ON_GAINS, picture(drawn, f"Gains: {protocol.title}")]
    if content.gaining:
        styles = [verdict_style(line, content.verdict) for line in content.gains]
        texts += [table(content.gain_head, content.gain_lines, styles), "<h3>Accuracies</h3>"]
    texts.append(table(content.head, content.lines))
    texts += [f"<p class=note>{html.escape(note)}</p>" for note in content.notes]
    return "\n".join(texts)


def verdict_style(gains: Mapping[str, Gain | None], column: str) -> dict[str, str]:
    """{column: style} of a line of gains, of which one column has a verdict."""
    gain = gains[column]
    style = MARKS.get(gain.verdict(column)) if gain else None
    return {column: style, "verdict": style} if style else {}


def failed_part(failed: list[list[str]]) -> str:
    """The part of a page on jobs that failed."""
    return (
        f"<h2 id=failed>Failed jobs</h2><p class=note>{len(failed):,} jobs of sweeps ended without "
        "results; nothing of them is in the tables.</p>" + table(["folder", "reason"], failed)
    )


def figures_part(figures: list[Path]) -> str:
    """The part of a page with the pictures that the user gave."""
    pictures = [f"<h3>{html.escape(path.stem)}</h3>" + picture(path, path.stem) for path in figures]
    return "<h2 id=pictures>Pictures</h2>" + "".join(pictures)


def last_part(protocols: list[Protocol], runs: dict[Path, Run]) -> str:
    """The part of a page on how everything was run."""
    details = [
        f"<details><summary>{protocol.title}</summary><div class=inside>"
        f"{configurations(protocol, runs)}</div></details>"
        for protocol in protocols
    ]
    return (
        f"<h2 id=how>How it was run</h2>{facts([run.results for run in runs.values()])}"
        "<h3>Configurations</h3><p class=note>By folder; of tests, what differs from the training "
        "of the model.</p>" + "\n".join(details)
    )


def page(folders: list[Path], figures: list[Path]) -> str:
    """The whole page. Raises InputError if there is nothing to show."""
    runs, failed = runs_of(folders), failures(folders)
    contents = {
        protocol: content
        for protocol in PROTOCOLS.values()
        if (content := results.tables(protocol, folders)).rows
    }
    if not contents and not failed:
        raise InputError(
            f"{', '.join(map(str, folders))} holds no finished runs of any protocol: run one of "
            "scripts/ first"
        )
    parts = {protocol.name: part(protocol, content) for protocol, content in contents.items()}
    titles = {protocol.name: protocol.title for protocol in contents}
    if failed:
        parts["failed"], titles["failed"] = failed_part(failed), "Failed jobs"
    if figures:
        parts["pictures"], titles["pictures"] = figures_part(figures), "Pictures"
    parts["how"], titles["how"] = last_part(list(contents), runs), "How it was run"
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    links = " · ".join(f"<a href='#{name}'>{title}</a>" for name, title in titles.items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
        "content='width=device-width'><title>CRAFT: results</title>"
        f"<style>{STYLE}</style><h1>CRAFT: what was run</h1>"
        "<p class=note>Accuracies in percent, mean ± standard deviation over seeds; dots are "
        f"seeds. {len(runs):,} runs, made into a page {now}.</p><p>{links}</p>"
        + "\n".join(parts.values())
        + "</html>\n"
    )


def run(args: argparse.Namespace) -> int:
    inputs.check_name(args.out, "--out", (".html", ".htm"))
    for path in args.figures:
        if not path.is_file() or path.suffix.lower() != ".png":
            raise InputError(
                f"--figures has '{path}', which is no PNG file: give those of tools.figures"
            )
    inputs.write(args.out, page(args.folders, args.figures), "--out")
    sys.stdout.write(f"report: {args.out}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.report",
    )
    parser.add_argument("folders", nargs="+", type=inputs.path, metavar="OUTPUT")
    parser.add_argument("--out", type=inputs.path, default=Path("output/report.html"))
    parser.add_argument(
        "--figures",
        nargs="*",
        type=inputs.path,
        default=[],
        metavar="PNG",
        help="pictures of tools.figures",
    )
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
