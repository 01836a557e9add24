"""Keys and certificates as other programs write and read them; pure.

What comes from a file is material to judge: it is bounded in size and in the work that reading costs, every
outcome is a value or one error of ``errors.py`` in words, and nothing here decides what a key is used for.
"""
