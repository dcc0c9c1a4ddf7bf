"""The quick start: `python -m tools.quickstart [STRUCTURE ...]`, by scripts/quickstart.sh.

Prepares a set of the bundled suite, runs configs/sweeps/quickstart.yaml with one thread a process,
and shows the table.
"""

import argparse
import os
import sys

from tools import configs, inputs, results, sweep
from tools.arguments import Parser
from tools.configs import ROOT
from tools.plans import read_plan
from tools.protocols import PROTOCOLS
from tools.reproduce import prepare
from tools.run import folder_of, shots_of

PLAN = "configs/sweeps/quickstart.yaml"
MEANING = """
base: accuracy on the classes that were learned, in percent. new: on classes that no training saw.
H: the harmonic mean of both. Ten seeds draw ten times other eight training pictures a class.
± is the standard deviation over seeds. A gain stands with its 95% interval; its verdict is "open"
unless it is more than chance. The notes say how many comparisons there are and what they can see.
The table is in {output}/base2new.md, the picture in {output}/base2new.png, that of the gains in
{output}/base2new_gains.png.
Next: bash scripts/quickstart.sh MaPLe PromptSRC, or on your pictures: docs/using.md
"""


def structures(names: list[str]) -> list[str]:
    """Raises InputError for a name that is no structure."""
    for name in names:
        configs.check(name, configs.structures(), "structure")
    return names or ["CoOp"]


def run(args: argparse.Namespace) -> int:
    """The exit code of what fails first: the preparation, a run, or the table."""
    chosen = structures(args.structures)
    os.environ["SHOTS"] = os.environ.get("SHOTS") or "8"
    shots = shots_of(PROTOCOLS["base2new"])
    root, output = folder_of("DATA", "data"), folder_of("OUTPUT", "output")
    if code := prepare(str(ROOT / PLAN), root):
        return code
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads only spin on models this small
    os.chdir(ROOT)  # configs name files from here
    todo = sweep.Sweep(read_plan(PLAN, trainers=chosen, shots=shots), root, output)
    todo.refuse_others()
    if code := todo.run():
        return code
    table = ["base2new", f"{output}/base2new", "--shots", str(shots[0])]
    files = ["--out", f"{output}/base2new", "--plot", f"{output}/base2new.png"]
    if code := results.main([*table, *files, "--plot-gains", f"{output}/base2new_gains.png"]):
        return code
    sys.stdout.write(MEANING.format(output=output))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """0, or the exit code of what failed."""
    parser = Parser(description=__doc__, prog="quickstart.sh")
    parser.add_argument("structures", nargs="*", metavar="STRUCTURE", help="default CoOp")
    with sweep.stoppable():
        return inputs.main(
            run,
            parser.parse_args(arguments),
            interrupted="interrupted: run the same command again to go on",
        )


if __name__ == "__main__":
    sys.exit(main())
