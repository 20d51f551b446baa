#!/usr/bin/env bash
# Everything that is to be known from a few minutes on a GPU: bash benchmarks/gpu_first_run.sh FOLDER
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m benchmarks.gpu_first_run "$@"
