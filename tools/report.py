"""One page with everything that was run: `python -m tools.report OUTPUT ... [--out page.html]`.

First what was compared and what came out. Then, for each protocol with finished runs below the
folders: gains over the baselines, accuracies, pictures, learning curves; the jobs of sweeps that
failed, pictures given with --figures, the configurations, versions, seeds and how long it took. The
file needs nothing else, neither network nor other files; a heading of a table sorts it.
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
from tqdm import tqdm

from dassl import record
from tools import curves, findings, inputs, launchers, plots, results
from tools.arguments import Parser
from tools.gains import Gain
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Protocol
from tools.protocols.rows import run_files, run_of

HERE = Path(__file__).parent
STYLE, SCRIPT = HERE / "report.css", HERE / "report.js"

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
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + "</tbody></table></div>"
    )


def picture(path: Path, name: str) -> str:
    """An image that the page holds itself."""
    image = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/png;base64,{image}"
    return f'<div class="wide"><img alt="{html.escape(name)}" src="{source}"></div>'


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
    """[folder, reason, attempts] of failed jobs of sweeps that nobody has run again since."""
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
            reason = str(marked.get("error") or launchers.NO_WORD)
            attempts = str(marked.get("attempts") or "")
            failed.append([folder.relative_to(top).as_posix(), reason, attempts])
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
            [name, ", ".join(map(str, sorted(values, key=_in_order)))]
            for name, values in sorted(lists.items())
        ],
    ]
    return table(["", ""], rows)


def _in_order(value: object) -> tuple[bool, int, str]:
    """Numbers by size, then all else by its text."""
    return (False, value, "") if isinstance(value, int) else (True, 0, str(value))


NOTE_ON_GAINS = (
    "<h3>Gain of CRAFT over its baseline</h3><p class=note>Paired over seeds, mean [95% interval]; "
    "coloured where the verdict is gain or loss. A method has one colour and one marker in all "
    "pictures; its variants are shades of it.</p>"
)
NOTE_ON_ACCURACIES = (
    "<h3>Accuracies</h3><p class=note>Percent, mean ± standard deviation over seeds; the best mean "
    "of a data set in a column is bold, which may be so by chance.</p>"
)
NOTE_ON_CURVES = (
    "<h3>Learning curves</h3><p class=note>Means over the batches of an epoch, then over seeds and "
    "data sets, from the event files of the trainings.</p>"
)


def part(protocol: Protocol, content: results.Tables, shown: Sequence[plots.Panel]) -> str:
    """The part of a page on one protocol: gains, accuracies, learning curves, notes."""
    texts = [f"<h2 id={protocol.name}>{html.escape(protocol.title)}</h2>"]
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "plot.png"
        plots.plot(content.shown, content.columns, drawn)
        texts.append(picture(drawn, protocol.title))
        if content.gaining:
            plots.gains(content.gaining, content.gains, content.verdict, drawn)
            styles = [verdict_style(line, content.verdict) for line in content.gains]
            texts += [NOTE_ON_GAINS, picture(drawn, f"Gains: {protocol.title}")]
            texts.append(table(content.gain_head, content.gain_lines, styles))
        best = [dict.fromkeys(columns, "best") for columns in content.best]
        texts += [NOTE_ON_ACCURACIES, table(content.head, content.lines, best)]
        if shown:
            plots.learning(shown, drawn)
            texts += [NOTE_ON_CURVES, picture(drawn, f"Learning curves: {protocol.title}")]
    if content.notes:
        lines = "\n".join(f"<li>{html.escape(note)}</li>" for note in content.notes)
        texts.append(f"<h3>Notes</h3><ul class=note>{lines}</ul>")
    return "\n".join(texts)


def learned(contents: Mapping[Protocol, results.Tables]) -> dict[Protocol, list[plots.Panel]]:
    """Panels of learning curves. A training that several protocols test is in the first's."""
    seen: set[Path] = set()
    todo: dict[Protocol, dict[str, list[tuple[Path, int]]]] = {}
    for protocol, content in contents.items():
        found = curves.trainings(content.rows)
        new = {
            label: [(folder, epochs) for folder, epochs in runs if folder.resolve() not in seen]
            for label, runs in found.items()
        }
        seen |= {folder.resolve() for runs in new.values() for folder, _ in runs}
        todo[protocol] = {label: runs for label, runs in new.items() if runs}
    total = sum(len(runs) for labels in todo.values() for runs in labels.values())
    with tqdm(total=total, desc="learning curves", mininterval=1, disable=total < 50) as bar:

        def read(folder: Path, epochs: int) -> dict:
            bar.update()
            return curves.by_epoch(curves.read(folder), epochs)

        return {
            protocol: curves.panels(
                contents[protocol].rows,
                {name: [read(*run) for run in runs] for name, runs in labels.items()},
            )
            for protocol, labels in todo.items()
        }


def headline(contents: Mapping[Protocol, results.Tables], runs: int, failed: int) -> str:
    """What was compared and what came out, of each protocol, in words made from the numbers."""
    texts = []
    for protocol, content in contents.items():
        sentences = [findings.compared(content), *findings.finding(content)]
        title = html.escape(protocol.title)
        texts.append(f"<p><b>{title}.</b> {html.escape(' '.join(sentences))}</p>")
    words = f"{findings.counted(runs, 'finished run')} altogether."
    if failed:
        words += f" <a href='#failed'>{findings.counted(failed, 'job')} failed</a>."
    return f"<section class=headline>{''.join(texts)}<p>{words}</p></section>"


def verdict_style(gains: Mapping[str, Gain | None], column: str) -> dict[str, str]:
    """{column: style} of a line of gains, of which one column has a verdict."""
    gain = gains[column]
    style = MARKS.get(gain.verdict(column)) if gain else None
    return {column: style, "verdict": style} if style else {}


def failed_part(failed: list[list[str]]) -> str:
    """The part of a page on jobs that failed."""
    return (
        "<h2 id=failed>Failed jobs</h2><p class=note>"
        f"{findings.counted(len(failed), 'job')} of sweeps ended without results; nothing of them "
        "is in the tables. The command of the sweep runs them again.</p>"
        + table(["folder", "reason", "attempts"], failed)
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
    panels = learned(contents)
    parts = {
        protocol.name: part(protocol, content, panels[protocol])
        for protocol, content in contents.items()
    }
    titles = {protocol.name: protocol.title for protocol in contents}
    if failed:
        parts["failed"], titles["failed"] = failed_part(failed), "Failed jobs"
    if figures:
        parts["pictures"], titles["pictures"] = figures_part(figures), "Pictures"
    parts["how"], titles["how"] = last_part(list(contents), runs), "How it was run"
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    links = " · ".join(f"<a href='#{name}'>{title}</a>" for name, title in titles.items())
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>CRAFT: results</title><style>{STYLE.read_text()}</style></head><body>"
        f"<h1>CRAFT: what was run</h1>{headline(contents, len(runs), len(failed))}"
        f"<p class=note>Made {now}.</p><nav>{links}</nav>"
        + "\n".join(parts.values())
        + f"<script>{SCRIPT.read_text()}</script></body></html>\n"
    )


def run(args: argparse.Namespace) -> int:
    inputs.check_outputs([inputs.Output("--out", args.out, (".html", ".htm"))], args.figures)
    for path in args.figures:
        if not path.is_file() or path.suffix.lower() != ".png":
            raise InputError(
                f"--figures has '{path}', which is no PNG file: give those of tools.figures"
            )
    inputs.write(args.out, page(args.folders, args.figures), "--out")
    sys.stdout.write(f"report: {args.out}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
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
