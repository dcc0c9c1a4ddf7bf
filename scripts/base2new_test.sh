#!/usr/bin/env bash
# Base-to-novel, second half: test what was trained on base classes on the new classes; with TARGET=<other data set>, on that
# data set's base and new classes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run base2new test "$@"
