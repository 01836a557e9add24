"""WHO: hosts and groups, read from Ansible's YAML inventories, and the patterns that select hosts."""
