#!/bin/bash
# Creates a Cloud TPU pod slice, installs jepa-speech, trains and deletes the slice; in single steps or all together.
#
#   launch/tpu_pod.sh all CONFIG RUN [--config.key=value ...]   all steps, repeated after each preemption
#   launch/tpu_pod.sh create | stop | install | delete
#   launch/tpu_pod.sh run CONFIG RUN [--config.key=value ...]
#
# Settings are environment variables; NAME and ZONE are required:
#   NAME=my-pod  ZONE=us-east5-b  TYPE=v5litepod-64  VERSION=v2-alpha-tpuv5-lite  [PROJECT=...]  [SPOT=1]
#   [QUEUED=1]                                        asks by a queued resource of the same name, and waits for it
#   [MOUNT='gcsfuse --implicit-dirs my-bucket data']  run on each worker first, so that ~/data has store and runs
#   [PUBLIC=1]                                        workers with external addresses; see below
#   [SSH_FLAGS='--internal-ip']                       options of gcloud's ssh and scp, split at spaces
#   [TRACK=alpha]                                     the track of gcloud that has SSH_FLAGS='--tunnel-through-iap'
#   [DRY_RUN=1]                                       prints the commands, as if the slice did not exist yet
# Each step may be repeated. CONFIG must be committed: the workers get the last commit of this checkout. RUN, store and
# anchor must be in a bucket, gs:// or s3://, or on a file system that all workers see. Relative paths start at the
# workers' home.
# Without PUBLIC, workers have no external addresses, because the coordinator's port 8482 is only for the slice. Run
# this script on a machine in their network then. The network needs a NAT, because the workers install packages. With
# PUBLIC=1, let the firewall admit only ssh, as Google's default network does.
# If a worker fails, the others save and end. The code is that of the worker that failed.
# The slice costs money until `delete`, which needs QUEUED=1 if `create` had it. `all` keeps the slice if the run fails,
# and deletes it after a complete run.
set -u
usage() { sed -n '2,25s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] && [ -n "${NAME:-}" ] && [ -n "${ZONE:-}" ] || usage
step=$1
shift
type=${TYPE:-v5litepod-64} version=${VERSION:-v2-alpha-tpuv5-lite}
where=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
internal=--internal-ip
[ -z "${PUBLIC:-}" ] || internal=''
read -ra ssh_options <<<"${SSH_FLAGS:-$internal}"
tpu=(gcloud ${TRACK:+"$TRACK"} compute tpus tpu-vm)
queue=(gcloud ${TRACK:+"$TRACK"} compute tpus queued-resources)
retry=${RETRY_SECONDS:-60}

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

# Prints a field of the slice or of its queued resource; nothing if that does not exist. Fails if gcloud cannot tell.
described() { # FIELD COMMAND...
    local field=$1 said
    shift
    { said=$("$@" describe "$NAME" "${where[@]}" "--format=value($field)" 2>&1 >&3); } 3>&1 && return
    [[ $said = *NOT_FOUND* ]] || { echo "$said" >&2 && return 1; }
}

state() { described state "${tpu[@]}"; }               # READY, CREATING, PREEMPTED, ...
queue_state() { described state.state "${queue[@]}"; } # WAITING_FOR_RESOURCES, ACTIVE, SUSPENDED, ...

# Without the flag, ssh would wait two hours for a worker that is gone without a word.
on_all_workers() { # COMMAND, for each worker's shell
    call "${tpu[@]}" ssh "$NAME" "${where[@]}" --worker=all ${ssh_options[@]+"${ssh_options[@]}"} \
        --ssh-flag=-oServerAliveInterval=30 "--command=$1"
}

request() {
    local image=--version command=("${tpu[@]}" create "$NAME")
    [ -z "${QUEUED:-}" ] || image=--runtime-version command=("${queue[@]}" create "$NAME" "--node-id=$NAME")
    call "${command[@]}" "${where[@]}" "--accelerator-type=$type" "$image=$version" \
        ${internal:+--internal-ips} ${SPOT:+--spot}
}

create() {
    local now
    if [ -n "${DRY_RUN:-}" ]; then
        request
        return
    fi
    if [ -n "${QUEUED:-}" ]; then
        wait_in_queue
        return
    fi
    now=$(state) || return
    case $now in
        READY) return 0 ;;
        '') ;;
        PREEMPTED | TERMINATED) delete || return ;; # such a slice does not return
        *) echo "tpu_pod.sh: $NAME is $now" >&2 && return 1 ;;
    esac
    request
}

# Returns when the queued resource has its slice. Requests one if there is none, or if its slice was preempted. A line
# every ten minutes, and for each new state. Ends the script if the service has refused the request.
wait_in_queue() {
    local now before='' start=$SECONDS shown=$SECONDS
    while :; do
        now=$(queue_state) || return
        if [ -n "$now" ] && { [ "$now" != "$before" ] || [ $((SECONDS - shown)) -ge 600 ]; }; then
            echo "tpu_pod.sh: queued resource $NAME: $now ($(((SECONDS - start) / 60)) min)" >&2
            shown=$SECONDS
        fi
        before=$now
        case $now in
            ACTIVE) return 0 ;;
            FAILED)
                echo "tpu_pod.sh: queued resource $NAME failed: $(described state.failedData.error.message "${queue[@]}");" \
                    "before you ask again, run: QUEUED=1 NAME=$NAME ZONE=$ZONE launch/tpu_pod.sh delete" >&2
                exit 1
                ;;
            SUSPENDED) delete || return ;; # it gets no other slice
            '') request || return ;;
            *) sleep "$retry" ;;
        esac
    done
}

# Installs the last commit of this checkout with its own Python. Needs neither root nor the image's Python.
install() {
    local archive=${TMPDIR:-/tmp}/jepa-speech-$NAME.tar.gz
    call git -C "$(dirname "$0")/.." archive --format=tar.gz "--output=$archive" HEAD || return
    call "${tpu[@]}" scp "$archive" "$NAME:jepa-speech.tar.gz" "${where[@]}" --worker=all \
        ${ssh_options[@]+"${ssh_options[@]}"} || return
    on_all_workers "set -e; rm -rf jepa-speech; mkdir jepa-speech; tar -xzf jepa-speech.tar.gz -C jepa-speech; \
python3 -m pip install --user --quiet uv; [ -d venv ] || python3 -m uv venv --quiet --python 3.12 venv; \
python3 -m uv pip install --quiet --python venv/bin/python 'jax[tpu]' --editable 'jepa-speech[cloud]'"
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

delete() { # with QUEUED=1, of the queued resource with its slice
    local now get=state command=("${tpu[@]}" delete "$NAME" "${where[@]}")
    [ -z "${QUEUED:-}" ] || get=queue_state command=("${queue[@]}" delete "$NAME" "${where[@]}" --force)
    if [ -z "${DRY_RUN:-}" ]; then
        now=$($get) || return
        [ -n "$now" ] || return 0
    fi
    call "${command[@]}" --quiet
}

# Returns whether the slice stays after a run that ended with CODE. While it is preempted, it may be READY for some
# minutes after its workers were stopped (75) or lost (134, 137).
stays() { # CODE
    local looks
    case $1 in
        255) return 1 ;; # ssh failed, or a step before
        75 | 134 | 137) looks=5 ;;
        *) looks=1 ;;
    esac
    while [ "$(state)" = READY ]; do
        looks=$((looks - 1))
        [ $looks -gt 0 ] || return 0
        echo "tpu_pod.sh: ended with $1, as in a preemption, but $NAME is READY: again looked at in $retry s" >&2
        sleep "$retry"
    done
    return 1
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
        # If the slice stays, the failure is the run's own. Otherwise, it was preempted, none is available, or the
        # command above is wrong. gcloud's line says which; Ctrl-C ends the loop.
        ! stays $code || return $code
        echo "tpu_pod.sh: again in $retry s" >&2
        sleep "$retry"
    done
}

case $step in
    create | install | stop | delete) "$step" ;;
    run | all)
        [ $# -ge 2 ] || usage
        number=0
        for argument; do # before a slice that costs money is created for a run that must fail
            number=$((number + 1))
            case $number:$argument in
                2:* | *:--config.data.store=* | *:--config.data.heldout=* | *:--config.anchor.path=*)
                    argument=${argument//gs:\/\//} argument=${argument//s3:\/\//}
                    ;;
            esac
            case $argument in
                *://*)
                    echo "tpu_pod.sh: $argument: only run, stores and anchors may be URLs, gs:// or s3://;" \
                        "name other paths as the workers see them, and mount the bucket by MOUNT" >&2
                    exit 2
                    ;;
            esac
        done
        "$step" "$@"
        ;;
    *) usage ;;
esac
