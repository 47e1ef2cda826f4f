# shellcheck shell=bash
# Where everything lives, and the two questions that every script asks: is a process still ours, which engine runs
# the containers. Sourced, never run.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$(cd "$HERE/../.." && pwd)
STATE=${ANYCLOUD_EMULATORS:-$PROJECT/target/emulators}
mkdir -p "$STATE"
STATE=$(cd "$STATE" && pwd)
RUN=$STATE/run
ENGINE_DIR=$STATE/engine
# podman refuses a run root of over 50 characters and a socket's path ends at 108, so these cannot live in the clone.
SHORT=/tmp/anycloud-$(printf %s "$STATE" | cksum | cut -d' ' -f1)
# shellcheck disable=SC2034
SERVICES=(localstack ministack gcs moto)
# The image that tests of exit codes and overrides run: a shell and nothing else.
# shellcheck disable=SC2034
SHELL_IMAGE=docker.io/library/anycloud-busybox:latest

say() { printf 'emulators: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

mkdir -p "$SHORT"
[ -O "$SHORT" ] || die "$SHORT belongs to somebody else"
chmod 700 "$SHORT"

venv() { printf '%s/venv-%s' "$STATE" "$1"; }
installed() { [ -f "$(venv "$1")/.lock" ]; }

# A pid file holds the pid and the process's start time, so that a pid given out again is never taken for ours.
started_at() { awk '{ sub(/^.*\) /, ""); if ($1 != "Z") print $20 }' "/proc/$1/stat" 2>/dev/null || true; }
remember() { printf '%s %s\n' "$2" "$(started_at "$2")" > "$RUN/$1.pid"; }
alive() {
    local pid='' since=''
    [ -f "$RUN/$1.pid" ] && read -r pid since < "$RUN/$1.pid" || return 1
    [ -n "$since" ] && [ "$(started_at "$pid")" = "$since" ]
}
# Zombies do not count: whoever inherits them may take its time.
group_runs() {
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v group="$1" '{ sub(/^.*\) /, ""); if ($3 == group && $1 != "Z") found = 1 } END { exit !found }'
}

docker_socket() {
    local host=${DOCKER_HOST:-unix:///var/run/docker.sock}
    case $host in unix://*) printf '%s' "${host#unix://}" ;; *) return 1 ;; esac
}
answers() { curl -fsS -m 5 --unix-socket "$1" http://engine/_ping >/dev/null 2>&1; }
engine() {
    local socket
    if [ -n "${ANYCLOUD_TEST_ENGINE:-}" ]; then printf '%s' "$ANYCLOUD_TEST_ENGINE"
    elif command -v docker >/dev/null && socket=$(docker_socket) && answers "$socket"; then printf docker
    else printf podman; fi
}
engine_socket() { if [ "$(engine)" = docker ]; then docker_socket; else printf '%s/podman.sock' "$SHORT"; fi; }

# The engine's command line; podman with stores of its own, so that it never meets the user's containers.
engine_cli() {
    if [ "$(engine)" = docker ]; then docker "$@"; return; fi
    CONTAINERS_CONF=$ENGINE_DIR/containers.conf CONTAINERS_REGISTRIES_CONF=$ENGINE_DIR/registries.conf \
        podman --root "$ENGINE_DIR/root" --runroot "$SHORT/run" --tmpdir "$SHORT/tmp" \
        --storage-driver "$(cat "$ENGINE_DIR/driver")" "$@"
}
