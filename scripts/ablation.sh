#!/usr/bin/env bash
# Ablation of CRAFT, base-to-novel: a structure as it is, with each term, with both, and, with UNLABELLED, with MMD, too. Give the
# structure as TRAINER (CoOp, VPT, MaPLe, PromptSRC); every variant has its own folder below OUTPUT/ablation.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" -m tools.run ablation "$@"
