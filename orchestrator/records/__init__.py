"""What must not be lost: the ledger of everything that was meant and done, and the vault of private keys."""
