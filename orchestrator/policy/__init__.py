"""WHICH key goes where: the playbook, the scopes it cuts, expiry, and the policies compared."""
