#!/usr/bin/env bash
# Few-shot: train on all classes with 1, 2, 4, 8 and 16 shots (or SHOTS="1 4"), test on all classes.
set -euo pipefail
for number in ${SHOTS:-1 2 4 8 16}; do
    SHOTS=$number bash "$(dirname "${BASH_SOURCE[0]}")/xd_train.sh" "$@"
done
