# What the demos share, sourced by them: a temporary folder that is left as it was found, commands that are shown and
# whose exit codes count, a fleet to try things on, and an independent witness.

set -euo pipefail
unset KEYRELAY_HOME KEYRELAY_PASSPHRASE_FILE
umask 077

folder=$(mktemp -d "${TMPDIR:-/tmp}/keyrelay-demo.XXXXXX")
witness=
began=$SECONDS

clean_up() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$witness" ]; then
        kill "$witness" 2>/dev/null || true
        wait "$witness" 2>/dev/null || true
    fi
    if [ -e "$folder/lab/lab.json" ]; then
        keyrelay lab down "$folder/lab" || true
    fi
    rm -rf "$folder"
    [ "$status" -eq 0 ] || printf '\nThe demo failed.\n' >&2
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# Shows a command, runs it, and insists on its exit code.
expect() {
    local wanted=$1 found=0
    shift
    printf '\n$ %s\n' "$*"
    "$@" || found=$?
    [ "$found" -eq "$wanted" ] || fail "expected exit code $wanted, found $found"
}

run() { expect 0 "$@"; }

# found SED…: passphrases, a home, and playbooks with waits that suit a demo; SED are further words for sed.
found() {
    openssl rand -hex 16 >vault.passphrase
    openssl rand -hex 16 >root.passphrase
    export KEYRELAY_PASSPHRASE_FILE=$folder/vault.passphrase
    run keyrelay init --root-passphrase-file root.passphrase
    printf '\nThe shipped playbooks count in days and minutes. For this demo they are shortened:\n'
    run sed -i \
        -e 's/validity: 5m, clock_skew: 30s/validity: 3s, clock_skew: 2s/; s/soak: 10m/soak: 1s/' "$@" \
        playbooks/shared.yml playbooks/per-server.yml
}

call_witness() {
    python -m orchestrator.lab.watcher lab --report witness.json &
    witness=$!
    printf '\nFrom now on a process of its own reads the hosts'"'"' files and looks for an agent that distrusts a live key.\n'
}

# Ends with the demo's last words, if the witness saw nothing.
hear_witness() {
    local code=0
    title 'What the independent witness saw'
    kill "$witness"
    wait "$witness" || code=$?
    witness=
    python -c '
import json, sys
told = json.load(sys.stdin)
print(told["looks"], "looks at an agent and a server;", told["moments"], "moments in which an agent distrusted a live key")
print(*told["examples"], sep="\n", end="")
' <witness.json
    [ "$code" -eq 0 ] || fail 'an agent distrusted a live key'
    printf '\nAll of it held, in %s s.\n' "$((SECONDS - began))"
}
