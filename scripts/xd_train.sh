#!/usr/bin/env bash
# Cross-dataset and domain generalisation, first half: train on all classes of one data set (the papers: imagenet).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run xd train "$@"
