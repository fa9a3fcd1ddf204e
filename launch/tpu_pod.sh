#!/bin/bash
# Creates a Cloud TPU pod slice, installs jepa-speech, trains and deletes the slice; in single steps or all together.
#
#   launch/tpu_pod.sh all CONFIG RUN [--config.key=value ...]   all steps, repeated after each preemption
#   launch/tpu_pod.sh create | stop | install | delete
#   launch/tpu_pod.sh run CONFIG RUN [--config.key=value ...]
#
# Settings are environment variables; NAME and ZONE are required:
#   NAME=my-pod  ZONE=us-east5-b  TYPE=v5litepod-64  VERSION=v2-alpha-tpuv5-lite  [PROJECT=...]  [SPOT=1]
#   [MOUNT='gcsfuse --implicit-dirs my-bucket data']  run on each worker first, so that ~/data has store and runs
#   [PUBLIC=1]                                        workers with external addresses; see below
#   [SSH_FLAGS='--internal-ip']                       options of gcloud's ssh and scp, split at spaces
#   [TRACK=alpha]                                     the track of gcloud that has SSH_FLAGS='--tunnel-through-iap'
#   [DRY_RUN=1]                                       prints the commands, as if the slice did not exist yet
# Each step may be repeated. CONFIG must be committed: the workers get the last commit of this checkout. RUN, store and
# anchor must be on a file system that all workers see; relative paths start at the workers' home.
# Without PUBLIC, workers have no external addresses, because the coordinator's port 8482 is only for the slice. Run
# this script on a machine in their network then. The network needs a NAT, because the workers install packages. With
# PUBLIC=1, let the firewall admit only ssh, as Google's default network does.
# If a worker fails, the others save and end. The code is that of the worker that failed.
# The slice costs money until `delete`. `all` keeps the slice if the run fails, and deletes it after a complete run.
set -u
usage() { sed -n '2,22s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] && [ -n "${NAME:-}" ] && [ -n "${ZONE:-}" ] || usage
step=$1
shift
type=${TYPE:-v5litepod-64} version=${VERSION:-v2-alpha-tpuv5-lite}
where=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
internal=--internal-ip
[ -z "${PUBLIC:-}" ] || internal=''
read -ra ssh_options <<<"${SSH_FLAGS:-$internal}"
tpu=(gcloud ${TRACK:+"$TRACK"} compute tpus tpu-vm)

quoted() { # the arguments, quoted for a shell
    local argument line=''
    for argument in "$@"; do
        case $argument in
            '' | *[!A-Za-z0-9_@%+=:,./-]*) argument="'${argument//\'/\'\\\'\'}'" ;;
        esac
        line+="${line:+ }$argument"
    done
    echo "$line"
}

call() { # runs one command, or prints it
    if [ -n "${DRY_RUN:-}" ]; then
        quoted "$@"
    else
        "$@"
    fi
}

# READY, CREATING, PREEMPTED, ...; empty if the slice does not exist. Fails if gcloud cannot tell, with its message.
state() {
    local said
    { said=$("${tpu[@]}" describe "$NAME" "${where[@]}" '--format=value(state)' 2>&1 >&3); } 3>&1 && return
    [[ $said = *NOT_FOUND* ]] || { echo "$said" >&2 && return 1; }
}

on_all_workers() { # COMMAND, for each worker's shell
    call "${tpu[@]}" ssh "$NAME" "${where[@]}" --worker=all ${ssh_options[@]+"${ssh_options[@]}"} "--command=$1"
}

create() {
    local now
    if [ -z "${DRY_RUN:-}" ]; then
        now=$(state) || return
        case $now in
            READY) return 0 ;;
            '') ;;
            PREEMPTED | TERMINATED) delete || return ;; # such a slice does not return
            *) echo "tpu_pod.sh: $NAME is $now" >&2 && return 1 ;;
        esac
    fi
    call "${tpu[@]}" create "$NAME" "${where[@]}" "--accelerator-type=$type" "--version=$version" \
        ${internal:+--internal-ips} ${SPOT:+--spot}
}

# Installs the last commit of this checkout with its own Python. Needs neither root nor the image's Python.
install() {
    local archive=${TMPDIR:-/tmp}/jepa-speech-$NAME.tar.gz
    call git -C "$(dirname "$0")/.." archive --format=tar.gz "--output=$archive" HEAD || return
    call "${tpu[@]}" scp "$archive" "$NAME:jepa-speech.tar.gz" "${where[@]}" --worker=all \
        ${ssh_options[@]+"${ssh_options[@]}"} || return
    on_all_workers "set -e; rm -rf jepa-speech; mkdir jepa-speech; tar -xzf jepa-speech.tar.gz -C jepa-speech; \
python3 -m pip install --user --quiet uv; [ -d venv ] || python3 -m uv venv --quiet --python 3.12 venv; \
python3 -m uv pip install --quiet --python venv/bin/python 'jax[tpu]' --editable jepa-speech"
}

# Ends processes that a broken connection may have left, with time to save.
stop() {
    on_all_workers "if [ -x jepa-speech/launch/tpu_worker.sh ]; then jepa-speech/launch/tpu_worker.sh stop; fi"
}

# Copies the output of all workers. gcloud ends only with the last worker. So when one has failed, this ends the others.
# Returns the code of the first worker that failed by itself: gcloud returns that of the lowest-numbered one, which may
# only have lost a peer. Otherwise, returns 0.
watch_workers() {
    local line code='' failure=0 stopping=''
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line"
        [[ $line =~ "tpu_worker.sh: "[^\ ]+" ended with "([0-9]+)$ ]] || continue
        code=${BASH_REMATCH[1]}
        case $code in
            0) continue ;;
            75 | 134 | 137) ;;
            *) [ "$failure" -ne 0 ] || failure=$code ;;
        esac
        [ -z "$stopping" ] || continue
        stopping=1
        stop </dev/null &
    done
    wait
    return "$failure"
}

run() { # CONFIG RUN [--config.key=value ...]
    local config=$1 workdir=$2 command codes
    shift 2
    [ "${config#/}" != "$config" ] || config=jepa-speech/$config
    command="${MOUNT:+MOUNT=$(quoted "$MOUNT") }jepa-speech/launch/tpu_worker.sh run $(quoted "$config" "$workdir" "$@")"
    if [ -n "${DRY_RUN:-}" ]; then
        on_all_workers "$command"
        return
    fi
    on_all_workers "$command" | watch_workers
    codes=("${PIPESTATUS[@]}")
    [ "${codes[1]}" -eq 0 ] || return "${codes[1]}"
    return "${codes[0]}"
}

delete() {
    local now
    if [ -z "${DRY_RUN:-}" ]; then
        now=$(state) || return
        [ -n "$now" ] || return 0
    fi
    call "${tpu[@]}" delete "$NAME" "${where[@]}" --quiet
}

all() {
    local code
    while :; do
        if create && stop && install; then
            run "$@"
            code=$?
        else
            code=255
        fi
        if [ $code -eq 0 ]; then
            delete
            return
        fi
        # If the slice exists, the failure is the run's own, unless it is ssh's (255). Otherwise, it was preempted, none
        # is available, or the command above is wrong. gcloud's line says which; Ctrl-C ends the loop.
        [ $code -eq 255 ] || [ "$(state)" != READY ] || return $code
        echo "tpu_pod.sh: again in ${RETRY_SECONDS:-60} s" >&2
        sleep "${RETRY_SECONDS:-60}"
    done
}

case $step in
    create | install | stop | delete) "$step" ;;
    run | all)
        [ $# -ge 2 ] || usage
        case "$*" in # before a slice that costs money is created for a run that must fail
            *://*)
                echo "tpu_pod.sh: a path is a URL: name paths of the workers, and mount the bucket by MOUNT" >&2
                exit 2
                ;;
        esac
        "$step" "$@"
        ;;
    *) usage ;;
esac
