#!/usr/bin/env bash
# What a finished run sees in new photos. docs/own_photos.md
#   bash scripts/predict.sh --model-dir RUN PHOTOS [...] [--csv FILE] [--sort-into FOLDER] [...]     --help lists all options
# Paths are relative to where the caller is.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.predict "$@"
