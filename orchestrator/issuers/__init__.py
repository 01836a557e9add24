"""Who certifies: implementations of the ``Issuer`` port."""
