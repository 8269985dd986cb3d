#!/bin/sh
exec bash "$(dirname -- "$0")/../run_onnx.sh" "$@"
