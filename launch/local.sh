#!/bin/bash
# Trains on this machine, on every device that jax sees, and goes on from the last checkpoint if there is one.
#
#   launch/local.sh CONFIG RUN [N] [--config.key=value ...]
#
# N, or PROCESSES=N in the environment: so many processes share the work (one GPU each, where there are GPUs).
# Without it, one process takes all. Exit code 75 means "saved before it was done", 134 that a peer was lost: all
# are then started again. Ctrl-C, SIGTERM and SIGHUP save and stop for good; a second one ends all at once.
set -u
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
config=$1 run=$2 processes=${PROCESSES:-1}
shift 2
case ${1:--} in
    -*) ;;
    *) processes=$1 && shift ;;
esac
case $processes in
    '' | *[!0-9]* | 0*) echo "local.sh: $processes processes: a whole number from 1 needed" >&2; exit 2 ;;
esac

pids=()     # of the processes of this round; each leads a process group, with its reading workers
stopping='' # set once this script was asked to stop

signal_all() { # SIGNAL [group]: a process that has ended is nobody's loss
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

free_port() { # below the range from which systems take ports for outgoing connections
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
        set -m # a group of its own: Ctrl-C reaches this script alone, which tells all
        jepa-speech train --config "$config" --workdir "$run" "$@" </dev/null &
        set +m
        pids+=($!)
    done
}

# Sets code to that of the first process that ends with another one than 0. Unless that is 75, after which all are
# saving, the rest cannot go on: they get ten seconds.
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
    signal_all KILL group # what they may have left behind
}

aborts=0
while :; do
    began=$SECONDS
    start "$@"
    [ -z "$stopping" ] || signal_all TERM # it was asked while they were started
    watch
    if [ -n "$stopping" ]; then
        case $code in
            134 | 137 | 143) exit 75 ;; # ended before it could save: the last checkpoint counts
            *) exit $code ;;
        esac
    fi
    case $code in
        75) aborts=0 ;;
        134)
            [ $((SECONDS - began)) -lt 60 ] || aborts=0
            aborts=$((aborts + 1))
            [ $aborts -lt 5 ] || { echo "local.sh: aborted 5 times in a row, each within a minute" >&2; exit 134; }
            ;;
        *) exit $code ;;
    esac
    sleep 1
    [ -z "$stopping" ] || exit 75
done
