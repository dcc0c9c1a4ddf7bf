#!/usr/bin/env bash
# Out-of-distribution, second half: test what ood_train.sh trained on TARGET and on further shifted data sets.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run ood test "$@"
