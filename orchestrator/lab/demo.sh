#!/usr/bin/env bash
# The whole job against real sshds on this machine, in a temporary folder: choose a policy, distribute, audit,
# let the keys come due, redistribute on expiry, audit again. Ends with 0 if all of it held.
#
# Needs `keyrelay` and `python` (of the same installation) on the PATH, sshd and openssl.
. "$(dirname -- "$0")/demo_stage.sh"

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
found -e 's/lifetime: [0-9]*d/lifetime: 400s/; s|renew_at: [0-9]*/[0-9]*|renew_at: 1/10|; s/grace: [0-9]*d/grace: 1h/'
call_witness

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

hear_witness
