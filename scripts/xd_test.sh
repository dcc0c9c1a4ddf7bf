#!/usr/bin/env bash
# Cross-dataset and domain generalisation, second half: test what xd_train.sh trained on all classes of other data sets.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run xd test "$@"
