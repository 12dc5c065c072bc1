"""learnaed: the daemon that every node of a swarm runs; everything that touches network, disk, processes and time."""
