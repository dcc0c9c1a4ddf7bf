#!/usr/bin/env bash
# Out-of-distribution, first half: train on all classes of DATASET, with the training images of TARGET as the unlabelled ones (a
# Craft trainer uses them if its config has a weight for MMD), and test on DATASET.
# shellcheck disable=SC2034
more="TARGET (the shifted data set whose images are the unlabelled ones; needed)" needs_target=yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
unlabelled=$(name_of TARGET)
train "$DATASET" all "$OUTPUT/ood/train/${DATASET}_to_$TARGET/$CELL" "$@" DATASET.TARGET "$unlabelled"
