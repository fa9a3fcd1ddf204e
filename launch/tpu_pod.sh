#!/bin/bash
# A Cloud TPU pod slice from nothing to a finished run, each step by itself or all together.
#
#   launch/tpu_pod.sh all CONFIG RUN [--config.key=value ...]   all steps; again after each preemption
#   launch/tpu_pod.sh create | stop | install | delete
#   launch/tpu_pod.sh run CONFIG RUN [--config.key=value ...]
#
# Settings come from the environment; NAME and ZONE have to be there:
#   NAME=my-pod  ZONE=us-east5-b  TYPE=v5litepod-64  VERSION=v2-alpha-tpuv5-lite  [PROJECT=...]  [SPOT=1]
#   [MOUNT='gcsfuse --implicit-dirs my-bucket data']  run on each worker first, so that ~/data holds store and runs
#   [PUBLIC=1]                                        workers with external addresses; see below
#   [SSH_FLAGS='--internal-ip']                       options of gcloud's ssh and scp, split at spaces
#   [TRACK=alpha]                                     the track of gcloud, where SSH_FLAGS='--tunnel-through-iap' is
#   [DRY_RUN=1]                                       prints the commands, as if the slice did not exist yet
# Each step may be repeated. CONFIG is a committed file of this checkout, which is what the workers get. RUN, store and
# anchor must lie on a file system that all workers see; their relative paths start at the workers' home.
# Without PUBLIC, workers have no external addresses, for the coordinator's port, 8482, is for the slice alone. Then start
# this script on a machine of their network, which needs a NAT, for they install packages. With PUBLIC=1 let the firewall
# admit nothing but ssh, as Google's default network does.
# It costs money until `delete`. `all` leaves the slice standing when a run fails, and deletes it when one is done.
set -u
usage() { sed -n '2,21s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] && [ -n "${NAME:-}" ] && [ -n "${ZONE:-}" ] || usage
step=$1
shift
type=${TYPE:-v5litepod-64} version=${VERSION:-v2-alpha-tpuv5-lite}
where=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
internal=--internal-ip
[ -z "${PUBLIC:-}" ] || internal=''
read -ra ssh_options <<<"${SSH_FLAGS:-$internal}"
tpu=(gcloud ${TRACK:+"$TRACK"} compute tpus tpu-vm)

quoted() { # the arguments, for any shell to read
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

state() { # READY, CREATING, PREEMPTED, ...; nothing where there is no such slice
    "${tpu[@]}" describe "$NAME" "${where[@]}" '--format=value(state)' 2>/dev/null
}

on_all_workers() { # COMMAND, for each worker's shell
    call "${tpu[@]}" ssh "$NAME" "${where[@]}" --worker=all ${ssh_options[@]+"${ssh_options[@]}"} "--command=$1"
}

create() {
    if [ -z "${DRY_RUN:-}" ]; then
        case $(state) in
            READY) return 0 ;;
            '') ;;
            PREEMPTED | TERMINATED) delete || return ;; # it will not come back
            *) echo "tpu_pod.sh: $NAME is $(state)" >&2 && return 1 ;;
        esac
    fi
    call "${tpu[@]}" create "$NAME" "${where[@]}" "--accelerator-type=$type" "--version=$version" \
        ${internal:+--internal-ips} ${SPOT:+--spot}
}

# The last commit of this checkout, in a Python of its own: needs no root, and not the image's Python.
install() {
    local archive=${TMPDIR:-/tmp}/jepa-speech-$NAME.tar.gz
    call git -C "$(dirname "$0")/.." archive --format=tar.gz "--output=$archive" HEAD || return
    call "${tpu[@]}" scp "$archive" "$NAME:jepa-speech.tar.gz" "${where[@]}" --worker=all \
        ${ssh_options[@]+"${ssh_options[@]}"} || return
    on_all_workers "set -e; rm -rf jepa-speech; mkdir jepa-speech; tar -xzf jepa-speech.tar.gz -C jepa-speech; \
python3 -m pip install --user --quiet uv; [ -d venv ] || python3 -m uv venv --quiet --python 3.12 venv; \
python3 -m uv pip install --quiet --python venv/bin/python 'jax[tpu]' --editable jepa-speech"
}

# Ends what a broken connection may have left running, with time to save.
stop() {
    on_all_workers "if [ -f train.pid ] && kill -TERM \$(cat train.pid) 2>/dev/null; then \
timeout 120 tail --pid=\$(cat train.pid) -f /dev/null; fi; rm -f train.pid"
}

# local.sh starts again what saved or lost a peer. jax finds the other workers by itself.
run() { # CONFIG RUN [--config.key=value ...]
    local config=$1 workdir=$2 arguments
    shift 2
    [ "${config#/}" != "$config" ] || config=jepa-speech/$config
    arguments=$(quoted "$config" "$workdir" "$@")
    on_all_workers "set -e; mkdir -p data; ${MOUNT:+mountpoint -q data || $MOUNT; }export PATH=\$HOME/venv/bin:\$PATH; \
echo \$\$ >train.pid; exec jepa-speech/launch/local.sh $arguments"
}

delete() {
    [ -n "${DRY_RUN:-}" ] || [ -n "$(state)" ] || return 0
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
        # A failure on a slice that stands is the run's own, unless it is ssh's (255). Else the slice was preempted, or
        # there is no room for one now, or the command above is wrong: gcloud's line says which, and Ctrl-C ends it.
        [ $code -eq 255 ] || [ "$(state)" != READY ] || return $code
        echo "tpu_pod.sh: again in ${RETRY_SECONDS:-60} s" >&2
        sleep "${RETRY_SECONDS:-60}"
    done
}

case $step in
    create | install | stop | delete) "$step" ;;
    run | all) [ $# -ge 2 ] || usage; "$step" "$@" ;;
    *) usage ;;
esac
