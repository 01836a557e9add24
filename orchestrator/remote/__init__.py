"""How hosts are reached and what they run there: SSH, the wire, ``host/``."""
