#!/usr/bin/env bash
# Cross-dataset and domain generalisation, second half: test what xd_train.sh trained on all classes of other data sets.
# shellcheck disable=SC2034
more="TARGETS (data sets to test on, default the ten others of the papers and the four variants of ImageNet)"
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
trained "$OUTPUT/$DATASET/$TRAINER/${CFG}_${SHOTS_NAME}shots/seed$SEED" xd_train.sh
for target in ${TARGETS:-caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101 \
    imagenetv2 imagenet_sketch imagenet_a imagenet_r}; do
    name=$target
    [ "$DATASET" != imagenet ] && name="${target}_from_$DATASET"
    run "$target" all "$OUTPUT/evaluation/$TRAINER/${CFG}_${SHOTS_NAME}shots/$name/seed$SEED" "${flags[@]}" "$@"
done
