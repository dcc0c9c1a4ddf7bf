#!/usr/bin/env bash
# Base-to-novel, first half: train on the base classes, test on them. A run that is complete is not repeated.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run base2new train "$@"
