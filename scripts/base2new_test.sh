#!/usr/bin/env bash
# Base-to-novel, second half: test what was trained on base classes on the new classes; with TARGET=<other data set>, on that
# data set's base and new classes.
# shellcheck disable=SC2034
more="TARGET (another data set to test on, default DATASET)"
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trained "$OUTPUT/base2new/train_base/$DATASET/$CELL" base2new_train.sh
target=${TARGET:-$DATASET}
name=$target
[ "$target" != "$DATASET" ] && name="${target}_from_$DATASET"
for subset in base new; do
    [ "$subset" = base ] && [ "$target" = "$DATASET" ] && continue  # tested after training
    run "$target" "$subset" "$OUTPUT/base2new/test_$subset/$name/$CELL" "${flags[@]}" "$@"
done
