#!/usr/bin/env bash
# Few-shot: train on all classes with 1, 2, 4, 8 and 16 shots (or SHOTS="1 4"), test on all classes.
# shellcheck disable=SC2034
shots="1 2 4 8 16" shots_more=", several in one go"
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
export DATA OUTPUT
for number in $SHOTS; do
    SHOTS=$number bash scripts/xd_train.sh "$DATASET" "$TRAINER" "$CFG" "$SEED" "$@"
done
