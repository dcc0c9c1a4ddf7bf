#!/usr/bin/env bash
# Open world, second half: test what was trained on base classes (base2new_train.sh) on all classes together, of which it is told no half.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run openworld test "$@"
