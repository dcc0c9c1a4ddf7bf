#!/usr/bin/env bash
# CLIP for your own photos: a folder with one folder of photos per class in, a model and a page about it out. docs/own_photos.md
#   bash scripts/fit.sh PHOTOS [--test FOLDER] [--clip NAME_OR_FILE_OR_bundled] [...]     --help lists all options
# Writes nothing into PHOTOS. Environment: OUTPUT (default output).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.fit "$@"
