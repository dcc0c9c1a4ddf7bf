#!/usr/bin/env bash
# The full test suite, environment included. Arguments go to pytest: bash scripts/test.sh -k craft
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m pytest -q -n auto --dist loadfile --no-loadscope-reorder "$@" tests
