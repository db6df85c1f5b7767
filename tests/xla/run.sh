#!/usr/bin/env bash
# Trains two steps and more through torch_xla on its CPU, and counts what it compiles. Not among the usual tests:
# torch_xla wants a torch of its own, in an environment of its own, of 7 GB.
#
#   bash tests/xla/run.sh [FOLDER]      where the environment is kept; a temporary one by default
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:-$(mktemp -d)}
if [ ! -x "$venv/bin/python" ]; then
  "$(command -v python3.11 || command -v python3)" -m venv "$venv"
  "$venv/bin/pip" install --quiet 'torch==2.9.*' 'torch_xla==2.9.0' . pytest
fi
for chips in 1 2; do
  PJRT_DEVICE=CPU CPU_NUM_DEVICES=$chips PYTHONPATH=.:plugins:tests/training "$venv/bin/python" tests/xla/train_steps.py "$chips"
done
