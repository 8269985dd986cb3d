#!/bin/sh
exec sh "$(dirname -- "$0")/../scripts/launch.sh" "$0" "$@"
