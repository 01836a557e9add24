#!/usr/bin/env bash
# A server is wiped and set up again, on real sshds on this machine, in a temporary folder: once with its key in
# the vault, once with a key that was on it alone, and once together with the controller, so that nothing is left
# but a backup file. Ends with 0 if no agent ever distrusted a key in use.
#
# Needs `keyrelay` and `python` (of the same installation) on the PATH, sshd and openssl.
. "$(dirname -- "$0")/demo_stage.sh"

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

# Believe the new SSH key, and have a new certificate made: the arguments are apply's.
naive_way() {
    cp lab/known_hosts known_hosts.before
    printf '\nThe naive way: believe the new SSH key, and have a new certificate made:\n'
    python -c 'import pathlib, orchestrator.lab as lab; lab.Lab(pathlib.Path("lab")).accept_host_keys()'
    expect 1 keyrelay apply "$@" -i lab/inventory.yml --yes
    cp known_hosts.before lab/known_hosts
}

cd "$folder"

title 'Six real sshds: 2 servers and 4 agents'
run keyrelay lab up lab --servers 2 --agents 4
found
call_witness

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
naive_way playbooks/per-server.yml
printf '\nWith its agents first:\n'
run keyrelay reinstall server-01 -i lab/inventory.yml --host-key "$fingerprint" --yes
[ "$(key_in_use)" != "$before" ] || fail 'server-01 has the key that was lost'
run keyrelay prove -i lab/inventory.yml

title 'A key that only a backup file has: the controller is gone as well'
run keyrelay apply playbooks/shared.yml -i lab/inventory.yml --yes
openssl rand -hex 16 >backup.passphrase
run keyrelay backup fleet.backup --backup-passphrase-file backup.passphrase
before=$(key_in_use)
wipe
rm -rf .keyrelay
printf '\nAnother machine has the backup, both passphrases, the inventory and the playbook.\n'
export KEYRELAY_HOME=$folder/another-machine
run keyrelay restore fleet.backup --backup-passphrase-file backup.passphrase -i lab/inventory.yml \
    --host-key "server-01=$fingerprint" --yes
naive_way playbooks/shared.yml --new-key
printf '\nFrom the backup:\n'
run keyrelay reinstall server-01 -i lab/inventory.yml --yes
[ "$(key_in_use)" = "$before" ] || fail 'server-01 has another key than before'
run keyrelay prove -i lab/inventory.yml
run keyrelay audit -i lab/inventory.yml

hear_witness
