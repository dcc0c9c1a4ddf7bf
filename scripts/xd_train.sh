#!/usr/bin/env bash
# Cross-dataset and domain generalisation, first half: train on all classes of one data set (the papers: imagenet).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train "$DATASET" all "$OUTPUT/$DATASET/$TRAINER/${CFG}_${SHOTS_NAME}shots/seed$SEED" "$@"
