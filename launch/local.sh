#!/bin/bash
# Trains on this machine, on every device that jax sees. Resumes from the last checkpoint if there is one.
#
#   launch/local.sh CONFIG RUN [N] [--config.key=value ...]
#
# N, or PROCESSES=N in the environment: number of processes (with GPUs, one GPU each). Without it, one process takes
# all devices. Processes that saved, lost a peer or were killed (exit codes 75, 134, 137) are restarted, all together,
# until five starts in a row have left no new checkpoint.
# Ctrl-C, SIGTERM and SIGHUP save and stop for good; a second signal ends all processes at once.
set -u
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
config=$1 run=$2 processes=${PROCESSES:-1}
shift 2
case ${1:--} in
    -*) ;;
    *) processes=$1 && shift ;;
esac
case $processes in
    '' | *[!0-9]* | 0*) echo "local.sh: $processes processes: a whole number from 1 needed" >&2; exit 2 ;;
esac

pids=()     # processes of this round; each leads a process group with its reader processes
stopping='' # set when this script receives a signal to stop

signal_all() { # SIGNAL [group]; ignores processes that have ended
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill "-$1" -- "${2:+-}$pid" 2>/dev/null; done
}

asked_to_stop() {
    [ -z "$stopping" ] || signal_all KILL group
    stopping=1
    signal_all TERM
}
trap asked_to_stop INT TERM HUP
trap 'signal_all KILL group' EXIT

free_port() { # below the range of ports for outgoing connections
    local port
    while port=$((20000 + RANDOM % 12000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start() {
    local i
    pids=()
    if [ "$processes" -gt 1 ]; then
        JEPA_SPEECH_COORDINATOR=127.0.0.1:$(free_port)
        export JEPA_SPEECH_COORDINATOR JEPA_SPEECH_PROCESSES=$processes
    fi
    for ((i = 0; i < processes; i++)); do
        if [ "$processes" -gt 1 ]; then
            export JEPA_SPEECH_PROCESS=$i
            if command -v nvidia-smi >/dev/null; then export JAX_LOCAL_DEVICE_IDS=$i; fi
        fi
        set -m # a separate process group, so that Ctrl-C reaches only this script, which signals all
        jepa-speech train --config "$config" --workdir "$run" "$@" </dev/null &
        set +m
        pids+=($!)
    done
}

# Sets code to the first exit code other than 0. If it is 75, the others are saving, too. Otherwise they cannot
# continue, and get ten seconds to end.
watch() {
    local left=("${pids[@]}") still pid status patience=-1
    code=0
    while [ ${#left[@]} -gt 0 ]; do
        still=()
        for pid in "${left[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then
                still+=("$pid")
            else
                wait "$pid"
                status=$?
                [ $code -ne 0 ] || code=$status
            fi
        done
        [ ${#still[@]} -gt 0 ] || break
        left=("${still[@]}")
        if [ $code -ne 0 ] && [ $code -ne 75 ]; then
            [ $patience -ne -1 ] || signal_all TERM
            patience=$((patience + 1))
            [ $patience -lt 50 ] || signal_all KILL group
        fi
        sleep 0.2
    done
    signal_all KILL group # reader processes that may be left
}

# The local folders of the run: of one in a bucket, those of the cache, for process 0 and for the others.
folders=("$run")
case $run in
    gs://* | s3://*)
        cache=${JEPA_SPEECH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/jepa-speech/buckets}
        folders=("$cache/runs/${run/:\/\///}" "$cache/peers/${run/:\/\///}")
        ;;
esac

# The names of the checkpoints. An unfinished one has a longer name.
checkpoints() {
    find "${folders[@]/%//checkpoints}" -mindepth 1 -maxdepth 1 -name '[0-9]*' ! -name '*.*' 2>/dev/null | sort
}

restarts=0
while :; do
    before=$(checkpoints)
    start "$@"
    [ -z "$stopping" ] || signal_all TERM # a signal arrived while they were started
    watch
    if [ -n "$stopping" ]; then
        case $code in
            134 | 137 | 143) exit 75 ;; # ended without saving; the last checkpoint remains
            *) exit $code ;;
        esac
    fi
    case $code in
        75 | 134 | 137) ;; # saved, or lost a peer on this or another machine, or was killed
        *) exit $code ;;
    esac
    restarts=$((restarts + 1))
    [ "$(checkpoints)" = "$before" ] || restarts=0
    [ $restarts -lt 5 ] || { echo "local.sh: ended 5 times in a row without a new checkpoint" >&2; exit $code; }
    sleep 1
    [ -z "$stopping" ] || exit 75
done
