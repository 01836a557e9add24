"""One file a revision, each named in the next one's ``down_revision``."""
