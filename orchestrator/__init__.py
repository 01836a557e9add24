"""keyrelay: hands authentication keys over across a fleet without ever orphaning an agent."""
