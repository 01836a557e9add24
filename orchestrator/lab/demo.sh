#!/usr/bin/env bash
# The whole job against real sshds on this machine, in a temporary folder: choose a policy, distribute, audit,
# let the keys come due, redistribute on expiry, audit again. Ends with 0 if all of it held.
#
# Needs `keyrelay` and `python` (of the same installation) on the PATH, sshd and openssl.
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

# How many different private keys the servers have in use: asked of openssl and the hosts' own files.
count_keys() {
    local wanted=$1 found
    printf '\n$ openssl pkey -in lab/hosts/server-*/keyrelay/server/current/key.pem -pubout | sort -u | wc -l\n'
    found=$(for key in lab/hosts/server-*/keyrelay/server/current/key.pem; do
        openssl pkey -in "$key" -pubout -outform DER | sha256sum
    done | sort -u | wc -l)
    printf '%s\n' "$((found))"
    [ "$found" -eq "$wanted" ] || fail "the servers hold $found keys, expected $wanted"
}

# Plans, and applies exactly what was planned.
plan_and_apply() {
    run keyrelay plan "$1" -i lab/inventory.yml | tee plan.txt
    run keyrelay apply "$1" -i lab/inventory.yml --plan "$(sed -n 's/^plan: //p' plan.txt)"
}

# The thumbprint of the first key of a scope in a state.
key_of() {
    keyrelay --json cert list | python -c '
import json, sys
scope, state = sys.argv[1:]
print(next(key["thumbprint"] for key in json.load(sys.stdin)["keys"] if (key["scope"], key["state"]) == (scope, state)))
' "$1" "$2"
}

cd "$folder"

title 'Eleven real sshds: 3 servers and 8 agents on 2 sites'
run keyrelay lab up lab --servers 3 --agents 8

title 'A fleet: its home, its issuer, example inventory and playbooks'
openssl rand -hex 16 >vault.passphrase
openssl rand -hex 16 >root.passphrase
export KEYRELAY_PASSPHRASE_FILE=$folder/vault.passphrase
run keyrelay init --root-passphrase-file root.passphrase
printf '\nThe shipped playbooks count in days and minutes. For this demo they are shortened:\n'
run sed -i \
    -e 's/lifetime: [0-9]*d/lifetime: 400s/; s|renew_at: [0-9]*/[0-9]*|renew_at: 1/10|; s/grace: [0-9]*d/grace: 1h/' \
    -e 's/validity: 5m, clock_skew: 30s/validity: 3s, clock_skew: 2s/; s/soak: 10m/soak: 1s/' \
    playbooks/shared.yml playbooks/per-server.yml

python -m orchestrator.lab.watcher lab --report witness.json &
witness=$!
printf '\nFrom now on a process of its own reads the hosts'"'"' files and looks for an agent that distrusts a live key.\n'

title 'Which policy? The numbers for these very hosts'
run keyrelay policy compare playbooks/shared.yml -i lab/inventory.yml

title 'One key for all servers'
plan_and_apply playbooks/shared.yml
run keyrelay audit -i lab/inventory.yml
count_keys 1

title 'Another policy: a key for each server, made there. The change is itself a handover'
plan_and_apply playbooks/per-server.yml
count_keys 3
run keyrelay prove -i lab/inventory.yml
old=$(key_of server:server-01 active)

title 'Keys come due'
printf 'A successor is due 40 s after a key was made; waiting for that …\n'
until ! keyrelay due >/dev/null; do sleep 1; done
expect 4 keyrelay due

title 'Redistribution on expiry, as cron or a systemd timer would do it: again and again until nothing is left'
for _ in $(seq 30); do
    code=0
    printf '\n$ keyrelay watch --once playbooks/per-server.yml -i lab/inventory.yml\n'
    keyrelay watch --once playbooks/per-server.yml -i lab/inventory.yml || code=$?
    case $code in
        0) break ;;
        3) sleep 2 ;;
        *) fail "watch ended with $code" ;;
    esac
done
[ "$code" -eq 0 ] || fail 'the redistribution did not come to an end'
run keyrelay audit -i lab/inventory.yml
run keyrelay prove -i lab/inventory.yml

title 'Who holds the new key of server-01, and who the old one?'
new=$(key_of server:server-01 active)
[ "$new" != "$old" ] || fail 'the key is still the old one'
run keyrelay holders -- "$new"
run keyrelay holders -- "$old" | tee old.txt
grep -q 'nobody holds it' old.txt || fail 'somebody still holds the old key'
run keyrelay ledger verify

title 'What the independent witness saw'
kill "$witness"
code=0
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
