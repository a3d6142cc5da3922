# Sourced by the scripts beside it: looks for what a build and a run need before either begins.

preflight_fail=0

# need WHAT HOW: one line that says what is missing and one that says what to type.
need() {
    printf 'tidegate: %s\n    type:  %s\n' "$1" "$2" >&2
    preflight_fail=1
}

preflight_build() {
    [[ -n "$(command -v cargo)" ]] || need "no Rust toolchain (cargo) on PATH" "see rustup.rs, then open a new shell"
    [[ -n "$(command -v cc)" ]] || need "no C compiler (SQLite and liburing are compiled from C)" "sudo apt-get install -y build-essential"
    [[ -n "$(command -v make)" ]] || need "no make (liburing is configured with it)" "sudo apt-get install -y build-essential"

    local major minor
    IFS=.- read -r major minor _ < <(uname -r)
    if (( major < 6 || (major == 6 && minor < 1) )); then
        need "kernel $(uname -r) is older than 6.1, the oldest whose io_uring Tidegate drives" "sudo apt-get install -y linux-image-amd64   # then reboot"
    fi
    if [[ "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" != 0 ]]; then
        need "this host switches io_uring off (kernel.io_uring_disabled)" "sudo sysctl kernel.io_uring_disabled=0"
    fi
    (( preflight_fail == 0 )) || exit 1
}
