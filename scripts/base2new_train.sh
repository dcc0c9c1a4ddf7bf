#!/usr/bin/env bash
# Base-to-novel, first half: train on the base classes, test on them. A run that is complete is not repeated.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train "$DATASET" base "$OUTPUT/base2new/train_base/$DATASET/$CELL" "$@"
