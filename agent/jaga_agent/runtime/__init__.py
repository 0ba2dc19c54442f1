"""The agent's shell: carries events to the core and the core's actions to adapters."""
