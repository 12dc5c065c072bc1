"""The trainer: a process of its own that holds the model; `supervisor` runs in the daemon, `worker` is the process."""
