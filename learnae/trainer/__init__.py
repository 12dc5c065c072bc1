"""What every trainer keeps and does, however it is attached: the worker process of `learnaed`, and `learnae.loop`."""
