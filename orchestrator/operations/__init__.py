"""What a user can ask for, one file each. Operations speak to ports alone and never to each other.

``handover.py`` is the exception that others build on: the one loop that drives the engine. ``asking.py`` is no
operation: it is how operations ask hosts without changing them.
"""
