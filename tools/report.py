"""One page with everything that was run: `python -m tools.report OUTPUT ... [--out page.html] [--figures PNG ...]`.

For each protocol with finished runs below the folders: table, gains over the baselines, picture; then pictures given with --figures, the
configurations, versions, seeds and how long it took. The file needs nothing else, neither network nor other files.
"""

import argparse
import base64
import datetime
import html
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import yaml

from tools import results
from tools.protocols import OWN_KEYS, PROTOCOLS, read_run

TITLES = {"base2new": "Base to new classes", "xd": "Cross-dataset", "dg": "Domain generalisation", "ood": "Out of distribution",
          "group": "Group robustness", "few_shot": "Few-shot", "ablation": "Ablation"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 1px solid #ddd; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: .8rem 0; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; } .text { text-align: left; }
th { border-bottom: 2px solid #444; } tr.new td { border-top: 1px solid #bbb; } tr:hover td { background: #f3f6fa; }
.up { color: #14743c; font-weight: 600; } .down { color: #a4262c; font-weight: 600; }
img { max-width: 100%; } .note { color: #555; font-size: 13px; } pre { font-size: 12px; background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""


TEXT = ("data set", "trainer", "config", "")  # columns that hold no numbers
LOWER_IS_BETTER = ("gap",)


def cell(text: str, column: str, gain: bool) -> str:
    """A table cell; a gain beyond two standard errors is coloured."""
    kind = "text" if column in TEXT else ""
    if gain and " ± " in text:
        value, error = (float(part) for part in text.split(" ± "))
        if abs(value) > 2 * error > 0:
            kind = "up" if (value > 0) != (column in LOWER_IS_BETTER) else "down"
    return f'<td class="{kind}">{html.escape(text)}</td>' if kind else f"<td>{html.escape(text)}</td>"


def table(head: list[str], lines: list[list[str]], gain: bool = False) -> str:
    body, before = [], None
    for line in lines:
        body.append(f"<tr{' class=new' if line[0] != before else ''}>" + "".join(map(cell, line, head, [gain] * len(head))) + "</tr>")
        before = line[0]
    top = "".join(f'<th class="text">{html.escape(name)}</th>' if name in TEXT else f"<th>{html.escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{top}</tr>' + "\n".join(body) + "</table></div>"


def picture(path: Path, name: str) -> str:
    return f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></p>'


def runs_of(folders: list[Path]) -> list[dict]:
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("results.json")):
        try:
            run = read_run(path)
        except (OSError, ValueError):
            continue  # `collect` names it
        if isinstance(run, dict) and run.get("complete"):
            found.append(run)
    return found


def configurations(runs: list[dict]) -> str:
    """The configuration of each trainer and data set, without what differs between its seeds, and of TRAINER only what it reads."""
    shown: dict[tuple, str] = {}
    for run in runs:
        config = {key: value for key, value in run.get("config", {}).items() if key not in OWN_KEYS and key not in ("VERSION", "RESUME")}
        name = config.get("TRAINER", {}).get("NAME", run.get("trainer", ""))
        own = {key: value for key, value in config.get("TRAINER", {}).items()
               if not isinstance(value, dict) or key == name.removeprefix("Craft").upper() or key == "CRAFT" and name.startswith("Craft")}
        text = yaml.safe_dump(config | {"TRAINER": own}, sort_keys=True, default_flow_style=None, width=140)
        shown.setdefault((name, config.get("DATASET", {}).get("NAME", ""), own.get("CRAFT", {}).get("LAMBDA_MMD", 0)), text)
    return "\n".join(f"<details><summary>{html.escape(' on '.join(str(part) for part in key[:2]))}{' with MMD' if key[2] else ''}</summary>"
                     f"<pre>{html.escape(text)}</pre></details>" for key, text in sorted(shown.items(), key=lambda item: str(item[0])))


def facts(runs: list[dict]) -> str:
    """Versions, devices, seeds, times."""
    lists: dict[str, set] = defaultdict(set)
    for run in runs:
        lists["device"].add(str(run.get("device", "?")))
        lists["seeds"].add(run.get("seed", "?"))
        for name, version in (run.get("versions") or {}).items():
            lists[name].add(str(version))
    hours = sum(run.get("wall_time_s") or 0 for run in runs) / 3600
    started = [run["started"] for run in runs if run.get("started")]
    rows = [["runs", f"{len(runs):,}"], ["time of all runs together", f"{hours:.1f} h"],
            ["first started, last finished", f"{min(started, default='?')}, {max((run.get('finished', '') for run in runs), default='?')}"],
            *[[name, ", ".join(map(str, sorted(values, key=str)))] for name, values in sorted(lists.items())]]
    return table(["", ""], rows)


def page(folders: list[Path], figures: list[Path]) -> str:
    """The whole page, or "" if there is nothing to show."""
    parts = []
    for name, protocol in PROTOCOLS.items():
        found = results.tables(protocol, folders)
        if not found.rows:
            continue
        parts.append(f"<h2>{TITLES[name]}</h2>" + table(found.head, found.lines))
        if found.gain_lines:
            parts.append("<h3>Gain of CRAFT over its baseline</h3><p class=note>Paired over seeds, mean ± standard error; coloured beyond two "
                         "standard errors.</p>" + table(found.gain_head, found.gain_lines, gain=True))
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / "plot.png"
            results.plot(found.rows, found.columns, drawn)
            parts.append(picture(drawn, TITLES[name]))
        parts += [f"<p class=note>{html.escape(note)}</p>" for note in found.notes]
    if not parts:
        return ""
    if figures:
        parts.append("<h2>Pictures</h2>" + "".join(f"<h3>{html.escape(path.stem)}</h3>" + picture(path, path.stem) for path in figures))
    runs = runs_of(folders)
    made = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return ("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>CRAFT: results</title>"
            f"<style>{STYLE}</style><h1>CRAFT: what was run</h1><p class=note>Accuracies in percent, mean ± standard deviation over seeds. Made {made}.</p>"
            + "\n".join(parts) + "<h2>How it was run</h2>" + facts(runs) + "<h3>Configurations</h3>" + configurations(runs) + "</html>\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python -m tools.report")
    parser.add_argument("folders", nargs="+", type=Path, metavar="OUTPUT")
    parser.add_argument("--out", type=Path, default=Path("output/report.html"))
    parser.add_argument("--figures", nargs="*", type=Path, default=[], metavar="PNG", help="pictures of tools.figures")
    args = parser.parse_args(arguments)
    if lacking := [path for path in (*args.folders, *args.figures) if not path.exists()]:
        sys.stderr.write(f"error: '{lacking[0]}' does not exist: give the output folder of the runs, and PNG files with --figures\n")
        return 2
    text = page(args.folders, args.figures)
    if not text:
        sys.stderr.write(f"error: {', '.join(map(str, args.folders))} holds no finished runs of any protocol: run one of scripts/ first\n")
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(args.out)
    sys.stdout.write(f"report: {args.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
