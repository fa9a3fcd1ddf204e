#!/bin/bash
# Trains on one worker of a Cloud TPU pod slice. tpu_pod.sh calls it over ssh, in the worker's home folder.
#
#   launch/tpu_worker.sh run CONFIG RUN [--config.key=value ...]    ends an earlier start, then trains
#   launch/tpu_worker.sh stop                                       ends an earlier start
#
# MOUNT='COMMAND' runs first, if ~/data is not mounted yet. An earlier start has 120 s to save.
# When a connection breaks, gcloud repeats its command by itself, while the processes of the first may still train.
# Two starts cannot share the TPU, and the output of the first is lost. So the second replaces the first.
set -u
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
host=$(uname -n)

# Call with start.lock open and locked as 8, so that only one call waits here, and with train.lock open as 9, which all
# processes of a start hold.
end_earlier() {
    local pid turn
    flock -n 9 && return
    echo "tpu_worker.sh: $host: an earlier start still runs; it saves and ends first" >&2
    pid=$(cat train.pid)
    for turn in save kill; do # after a second signal, local.sh kills its processes
        kill -TERM "$pid" 2>/dev/null || break
        timeout 120 tail --pid="$pid" -f /dev/null || echo "tpu_worker.sh: $host: $turn: not ended after 120 s" >&2
    done
    flock -w 60 9 && return
    echo "tpu_worker.sh: $host: processes of an earlier start do not end" >&2
    exit 1
}

stop() (
    exec 8>start.lock 9>train.lock
    flock 8
    end_earlier
)

# local.sh restarts processes that saved or lost a peer. jax finds the other workers by itself.
train() (
    exec 8>start.lock 9>train.lock
    flock 8
    end_earlier
    echo "$BASHPID" >train.pid
    exec "$(dirname "$0")/local.sh" "$@" 8>&-
)

run() {
    trap 'echo "tpu_worker.sh: $host ended with $?"' EXIT # tpu_pod.sh reads this line
    mkdir -p data || exit
    # Outside of the locks, which a program that mounts would hold for as long as it runs.
    [ -z "${MOUNT:-}" ] || mountpoint -q data || bash -c "$MOUNT" || exit
    export PATH=$HOME/venv/bin:$PATH
    train "$@"
    exit
}

case ${1:-} in
    stop) stop ;;
    run)
        [ $# -ge 3 ] || usage
        shift
        run "$@"
        ;;
    *) usage ;;
esac
