#!/usr/bin/env bash
# Ablation of CRAFT, base-to-novel: a structure as it is, with each term, with both, and, with UNLABELLED, with MMD, too. Give the
# structure as TRAINER (CoOp, VPT, MaPLe, PromptSRC); every variant has its own folder below OUTPUT/ablation.
# shellcheck disable=SC2034
more="UNLABELLED (a shifted data set with the same classes: the variant mmd, by configs/trainers/Craft<TRAINER>/<CFG>_mmd.yaml, uses its images without labels)"
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
training=() # options of trainings only
# variant NAME TRAINER CFG OPTIONS...
variant() {
    local name=$1 trainer=$2 cfg=$3
    shift 3
    OUTPUT="$OUTPUT/ablation/$name" bash scripts/base2new_train.sh "$DATASET" "$trainer" "$cfg" "$SEED" "$@" ${training[@]+"${training[@]}"}
    OUTPUT="$OUTPUT/ablation/$name" bash scripts/base2new_test.sh "$DATASET" "$trainer" "$cfg" "$SEED" "$@"
}
export DATA SHOTS
for config in "$CFG" ${UNLABELLED:+"${CFG}_mmd"}; do
    if [ ! -f "configs/trainers/Craft$TRAINER/$config.yaml" ]; then
        echo "error: there is no configs/trainers/Craft$TRAINER/$config.yaml: give a structure without CRAFT (CoOp, CoCoOp, VPT, IVLP, MaPLe, PromptSRC) and a config of it" >&2
        exit 2
    fi
done
[ -z "${UNLABELLED:-}" ] || unlabelled=$(name_of UNLABELLED)
static=TRAINER.CRAFT.LAMBDA_STATIC stochastic=TRAINER.CRAFT.LAMBDA_STOCHASTIC
variant baseline "$TRAINER" "$CFG" "$@"
variant static "Craft$TRAINER" "$CFG" "$@" $stochastic 0.0
variant stochastic "Craft$TRAINER" "$CFG" "$@" $static 0.0
variant both "Craft$TRAINER" "$CFG" "$@"
if [ -n "${UNLABELLED:-}" ]; then
    training=(DATASET.TARGET "$unlabelled")
    variant mmd "Craft$TRAINER" "${CFG}_mmd" "$@"
fi
