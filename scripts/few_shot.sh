#!/usr/bin/env bash
# Few-shot: train on all classes with 1, 2, 4, 8 and 16 shots (or SHOTS="1 4"), test on all classes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run few_shot "$@"
