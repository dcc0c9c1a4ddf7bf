#!/usr/bin/env bash
# Out-of-distribution, second half: test what ood_train.sh trained on TARGET and on further shifted data sets.
# shellcheck disable=SC2034
more="TARGET (as in training; needed), SHIFTED (data sets to test on, default TARGET)" needs_target=yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trained "$OUTPUT/ood/train/${DATASET}_to_$TARGET/$CELL" ood_train.sh
for shifted in ${SHIFTED:-$TARGET}; do
    run "$shifted" all "$OUTPUT/ood/test_$shifted/${DATASET}_to_$TARGET/$CELL" "${flags[@]}" "$@"
done
