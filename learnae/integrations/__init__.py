"""Callbacks for frameworks that own the training loop: each is an extra, and calls `learnae.join` and `Swarm.step`."""
