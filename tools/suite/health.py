"""Are the baselines healthy? `python -m tools.suite.health TABLE.json`.

TABLE.json is a base-to-novel table as `tools.results base2new OUTPUT --out TABLE` writes it. On the
average over its data sets prompt tuning should show what the literature reports of CLIP:

* each structure beats zero-shot CLIP on base classes by at least 3 points;
* CoOp loses on new classes;
* PromptSRC loses least there, or gains most.

The rules are of 2026-11-26, before any run of the study. A rule that is broken says that the
benchmark, or the settings, are not those of the field. The exit code is 1 if a rule is broken.
"""

import argparse
import json
import sys
from dataclasses import dataclass

from tools import configs, inputs
from tools.arguments import Parser
from tools.inputs import InputError
from tools.protocols.rows import is_average
from tools.results import markdown

LEAST_GAIN = 3.0  # points on base classes
FORGETS, CAREFUL = "CoOp", "PromptSRC"
HEAD = ["rule, on the average of the data sets", "seen", "kept"]


@dataclass(frozen=True)
class Rule:
    text: str
    seen: str
    kept: bool

    @property
    def cells(self) -> list[str]:
        return [self.text, self.seen, "yes" if self.kept else "**no**"]


def changes(table: dict) -> dict[str, tuple[float, float]]:
    """{structure: (change on base, change on new)} over zero-shot CLIP, in points.

    Of the baselines in the average rows. Raises InputError if one that a rule names is missing, or
    zero-shot CLIP, and for an empty cell.
    """
    average = [
        row for row in table["rows"] if is_average(row["dataset"]) and not row.get("published")
    ]
    plain = [row for row in average if not configs.has_craft(row["trainer"])]
    if empty := sorted(row["trainer"] for row in plain if None in row["cells"].values()):
        raise InputError(
            f"the average of {', '.join(empty)} has an empty cell: finish the runs of base and new "
            "classes"
        )
    means = {
        (row["trainer"], row["config"]): [row["cells"][name]["mean"] for name in ("base", "new")]
        for row in plain
    }
    frozen = [cell for (trainer, _), cell in means.items() if not configs.learns(trainer)]
    found = {
        trainer: (cell[0] - frozen[0][0], cell[1] - frozen[0][1])
        for (trainer, _), cell in means.items()
        if frozen and configs.learns(trainer)
    }
    if missing := [name for name in (FORGETS, CAREFUL) if name not in found]:
        raise InputError(
            f"the table has no average of {' and '.join(missing)} and zero-shot CLIP over the same "
            "data sets: finish their runs"
        )
    if len({row["dataset"] for row in average}) > 1:
        raise InputError("the table has averages over different data sets: finish their runs")
    if len(found) < len(means) - len(frozen) or len(frozen) > 1:
        raise InputError("the table has several configs of one structure: give one of each")
    return found


def rules(table: dict) -> list[Rule]:
    """Each rule with what was seen."""
    found = changes(table)
    checked = [
        Rule(
            f"{name} beats zero-shot CLIP on base classes by {LEAST_GAIN:g} points",
            f"{base:+.1f}",
            base >= LEAST_GAIN,
        )
        for name, (base, _) in found.items()
    ]
    new = {name: change for name, (_, change) in found.items()}
    best = max(new, key=new.__getitem__)
    seen = ", ".join(f"{name} {new[name]:+.1f}" for name in sorted(new, key=lambda n: -new[n]))
    return [
        *checked,
        Rule(f"{FORGETS} loses on new classes", f"{new[FORGETS]:+.1f}", new[FORGETS] < 0),
        Rule(f"{CAREFUL} loses least on new classes", seen, best == CAREFUL),
    ]


def health(args: argparse.Namespace) -> int:
    try:
        table = json.loads(args.table.read_text(encoding="utf-8"))
        checked = rules(table)
    except OSError as error:
        raise InputError(f"'{args.table}' cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"'{args.table}' is no table of tools.results base2new ({error}): make it with --out"
        ) from None
    sys.stdout.write(f"{markdown(HEAD, [rule.cells for rule in checked])}\n")
    return 0 if all(rule.kept for rule in checked) else 1


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m tools.suite.health",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", type=inputs.path, metavar="TABLE.json")
    return inputs.main(health, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
