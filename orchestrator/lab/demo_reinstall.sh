#!/usr/bin/env bash
# A server is wiped and set up again, on real sshds on this machine, in a temporary folder: once with its key in
# the vault, once with a key that was on it alone. Ends with 0 if no agent ever distrusted a key in use.
#
# Needs `keyrelay` and `python` (of the same installation) on the PATH, sshd and openssl.
set -euo pipefail
unset KEYRELAY_HOME KEYRELAY_PASSPHRASE_FILE
umask 077

folder=$(mktemp -d "${TMPDIR:-/tmp}/keyrelay-demo.XXXXXX")
witness=

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

key_in_use() {
    openssl pkey -in lab/hosts/server-01/keyrelay/server/current/key.pem -pubout -outform DER | sha256sum
}

# As if the machine had been installed anew: keyrelay's folder is gone, and sshd has another key.
wipe() {
    printf '\nserver-01 is wiped and set up again.\n'
    rm -rf lab/hosts/server-01/keyrelay
    python -c 'import pathlib, orchestrator.lab as lab; lab.Lab(pathlib.Path("lab")).replace_host_key("server-01")'
    fingerprint=$(ssh-keygen -lf lab/control/server-01/host_key.pub | cut -d ' ' -f 2)
}

cd "$folder"

title 'Six real sshds: 2 servers and 4 agents'
run keyrelay lab up lab --servers 2 --agents 4
openssl rand -hex 16 >vault.passphrase
openssl rand -hex 16 >root.passphrase
export KEYRELAY_PASSPHRASE_FILE=$folder/vault.passphrase
run keyrelay init --root-passphrase-file root.passphrase
printf '\nThe shipped playbooks count in minutes. For this demo they are shortened:\n'
run sed -i \
    -e 's/validity: 5m, clock_skew: 30s/validity: 3s, clock_skew: 2s/; s/soak: 10m/soak: 1s/' \
    playbooks/shared.yml playbooks/per-server.yml

python -m orchestrator.lab.watcher lab --report witness.json &
witness=$!

title 'A key that the vault has'
run keyrelay apply playbooks/shared.yml -i lab/inventory.yml --yes
before=$(key_in_use)
wipe
printf '\nThe host has another SSH key now, and that takes a word:\n'
expect 1 keyrelay reinstall server-01 -i lab/inventory.yml --yes
run keyrelay reinstall server-01 -i lab/inventory.yml --host-key "$fingerprint" --yes
[ "$(key_in_use)" = "$before" ] || fail 'server-01 has another key than before'
run keyrelay prove -i lab/inventory.yml

title 'A key that was on the server alone'
run keyrelay apply playbooks/per-server.yml -i lab/inventory.yml --yes
before=$(key_in_use)
wipe
cp lab/known_hosts known_hosts.before
printf '\nThe naive way: believe the new SSH key, and have a new certificate made:\n'
python -c 'import pathlib, orchestrator.lab as lab; lab.Lab(pathlib.Path("lab")).accept_host_keys()'
expect 1 keyrelay apply playbooks/per-server.yml -i lab/inventory.yml --yes
cp known_hosts.before lab/known_hosts
printf '\nWith its agents first:\n'
run keyrelay reinstall server-01 -i lab/inventory.yml --host-key "$fingerprint" --yes
[ "$(key_in_use)" != "$before" ] || fail 'server-01 has the key that was lost'
run keyrelay prove -i lab/inventory.yml
run keyrelay audit -i lab/inventory.yml

title 'What the independent witness saw'
kill "$witness"
code=0
wait "$witness" || code=$?
witness=
cat witness.json
[ "$code" -eq 0 ] || fail 'an agent distrusted a key in use'
printf '\nAll of it held.\n'
