# shellcheck shell=bash disable=SC2154 # scripts/guest/init has "lab"
# Running a command in a guest of scripts/lab, for scripts/guest/init; sourced, not run.
#
# A folder that guests and host share stands for one command: environment and command go in, stdout,
# stderr and at last status come out. Files rather than sockets, so that nothing of it crosses the
# network, which a command may shape or break.

# shellcheck source=scripts/guest/doze.sh
. "$(dirname "${BASH_SOURCE[0]}")/doze.sh"

# Kills every process but those of this first session, which has the number 0, as the kernel's have.
end_sessions() {
    local path stat session
    for path in /proc/[0-9]*; do
        read -r stat <"$path/stat" || continue
        read -r _ _ _ session _ <<<"${stat##*) }"
        if [ "$session" != 0 ]; then kill -KILL "${path#/proc/}" || true; fi
    done 2>/dev/null
}

# run_command FOLDER CWD COMMAND...: the pid stands in $running/$(basename FOLDER) meanwhile.
running=/run/running
run_command() {
    local folder=$1 cwd=$2 environment out err copies=() status=0
    shift 2
    mapfile -d '' -t environment <"$folder/environment"
    # Pipes, because a program that opened its /dev/stderr anew would truncate a file.
    exec {out}> >(exec cat >"$folder/stdout")
    copies+=($!)
    exec {err}> >(exec cat >"$folder/stderr")
    copies+=($!)
    # In a session of its own, so that it can be told from what runs it. A shell's background
    # ignores interrupts, which is not for the command to inherit.
    # shellcheck disable=SC2016 # for that shell to expand
    setsid -w bash -c 'echo $$ >"$1"; cd "$2" && shift 2 && exec "$@"' bash \
        "$running/${folder##*/}" "$cwd" \
        env -i --default-signal=INT,QUIT "${environment[@]}" "$@" \
        </dev/null >&"$out" 2>&"$err" {out}>&- {err}>&- {never}<&- || status=$?
    exec {out}>&- {err}>&-
    # What it left behind could hold its output open for ever.
    if [ "$folder" = "$lab" ]; then end_sessions; fi
    for copy in "${copies[@]}"; do
        while [ -d "/proc/$copy" ]; do doze 1; done
    done
    rm -f "$running/${folder##*/}"
    echo "$status" >"$folder/status.new"
    mv "$folder/status.new" "$folder/status"
}

# What lab-on asked for in FOLDER.
run_request() {
    local asked
    mapfile -d '' -t asked <"$1/command"
    run_command "$1" "${asked[@]}"
}

# The signal that lab-on got, to the command's process group.
pass_signal() {
    local folder=$1 pid
    pid=$(cat "$running/${folder##*/}" 2>/dev/null) || return 0
    kill -s "$(cat "$folder/signal")" -- "-$pid" || true
    rm -f "$folder/signal"
}
