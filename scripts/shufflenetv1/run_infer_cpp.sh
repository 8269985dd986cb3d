#!/bin/sh
exec bash "$(dirname -- "$0")/../run_infer_cpp.sh" "$@"
