"""WHO: the hosts and groups of a fleet, read from Ansible's YAML inventories, and the patterns that select them."""
