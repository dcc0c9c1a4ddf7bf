#!/usr/bin/env bash
# Base-to-novel, second half: test what was trained on base classes on the new classes; with TARGET=<other data set>, on that
# data set's base and new classes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/base2new.sh"
flags=(--eval-only)
if [[ "$TRAINER" != ZeroshotCLIP* ]]; then
    if [ ! -f "$TRAINED/results.json" ]; then
        echo "error: '$TRAINED' holds no finished run: train it first with scripts/base2new_train.sh $DATASET $TRAINER $CFG $SEED" >&2
        exit 2
    fi
    # The model that was tested after training: the last one, or with TEST.FINAL_MODEL best_val the best one, which has no number.
    epoch=${LOADEP:-$("$PYTHON" -c 'import json, sys; r = json.load(open(sys.argv[1])); print("" if r["deployed"] == "best_val" else r["epochs"])' "$TRAINED/results.json")}
    flags+=(--model-dir "$TRAINED")
    [ -n "$epoch" ] && flags+=(--load-epoch "$epoch")
fi
target=${TARGET:-$DATASET}
name=$target
[ "$target" != "$DATASET" ] && name="${target}_from_$DATASET"
for subset in base new; do
    [ "$subset" = base ] && [ "$target" = "$DATASET" ] && continue  # tested after training
    run "$target" "$subset" "$OUTPUT/base2new/test_$subset/$name/shots_$SHOTS/$TRAINER/$CFG/seed$SEED" "${flags[@]}" "$@"
done
