#!/bin/sh
# Trains on this machine, on every device that jax sees, and goes on from the last checkpoint if there is one.
#
#   launch/local.sh CONFIG RUN [--config.key=value ...]
#
# Exit code 75 means "saved before it was done": the run is then started again. Ctrl-C saves and stops for good.
set -u
[ $# -ge 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
config=$1 run=$2
shift 2

trap 'exit 75' INT TERM # runs once the training below has saved and ended
while :; do
    jepa-speech train --config "$config" --workdir "$run" "$@"
    code=$?
    [ $code -eq 75 ] || exit $code
done
