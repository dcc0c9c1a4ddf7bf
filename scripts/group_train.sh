#!/usr/bin/env bash
# Group robustness: train on all images of a data set with groups (waterbirds, celeba, emoji_groups) and test; results.json has the
# average, worst-group accuracy, gap and every group.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run group train "$@"
