#!/usr/bin/env bash
# Group robustness: train on all images of a data set with groups (waterbirds, celeba, openmoji_groups) and test; results.json has the
# average, worst-group accuracy, gap and every group.
# shellcheck disable=SC2034
shots=-1
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[[ "$CFG" == *_mmd ]] && set -- TRAINER.CRAFT.MMD.DOMAINS group "$@"
train "$DATASET" all "$OUTPUT/group/$DATASET/$CELL" "$@"
