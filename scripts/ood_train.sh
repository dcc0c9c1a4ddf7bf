#!/usr/bin/env bash
# Out-of-distribution, first half: train on all classes of DATASET, with the training images of TARGET as the unlabelled ones (a
# Craft trainer uses them if its config has a weight for MMD), and test on DATASET.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run ood train "$@"
