"""WHEN keys change hands: the transition table, the plan, the engine, the drift. Pure: no I/O, no clock."""
