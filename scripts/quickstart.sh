#!/usr/bin/env bash
# Everything once, on a laptop: environment, a set of the bundled suite, base-to-novel with ten seeds, table and pictures.
#   bash scripts/quickstart.sh [STRUCTURE ...]     default: CoOp; also CoCoOp, VPT, IVLP, MaPLe, PromptSRC
# Each structure is run as it is and with CRAFT, beside zero-shot CLIP. Runs that are complete are not repeated, so it can be
# stopped and started again. Environment: DATA, OUTPUT, SHOTS (default 8).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.quickstart "$@"
