"""A scenario with real daemons in network namespaces instead of the simulator."""
