"""`learnae doctor`: facts are gathered, checks make verdicts of them, verdicts are printed.

::

    gathering ──Facts──▶ checks ──Verdict──▶ printing

`gathering` alone touches files, sockets, processes and the daemon; a check is a pure function of `Facts`.
"""
