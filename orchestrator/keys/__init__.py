"""WHAT is handed over: secrets, keys, certificates, the fleet's authority and trust bundles; pure."""
