#!/usr/bin/env bash
# A table of the paper, or the whole bundled study: everything that is missing is run, then tables and the report page are made.
#   bash scripts/reproduce.sh TABLE [options of tools.sweep, KEY VALUE ...]
#   TABLE: suite (the bundled study, on a laptop), suite_ablation, or base2new, xd, few_shot, ablation, ood, groups (with the data sets under DATA)
# Environment: DATA (default data), OUTPUT (default output). Stop it whenever you like: the same command goes on.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.reproduce "$@"
