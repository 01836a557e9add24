"""What a user can ask for, one file each. Operations speak to ports alone and never to each other.

``handover.py`` is the exception that others build on: the one loop that drives the engine. ``asking.py`` and
``planning.py`` are no operations, but what several begin with: asking hosts, and planning from the answers.
"""
