"""The process that imports torch and loads a task: `python -m learnae.cli.doctor.probe [TASK [DATA]]`; see `probing`.

It writes one line of JSON about torch, then one about the task if there is one. What the task prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(words: list[str]) -> None:
    """Look, and say what was found."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # The task may print.

    def say(**found: object) -> None:
        print(json.dumps(found), file=out, flush=True)

    try:
        import torch

        devices = [f"{torch.get_num_threads()} threads of the CPU"]
        if torch.cuda.is_available():
            devices += [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            devices.append("Apple GPU")
    except Exception as error:
        say(torch=None, devices=[], error=f"{type(error).__name__}: {error}"[:500])
        return
    say(torch=str(torch.__version__), devices=devices, error=None)
    if not words:
        return

    from learnae.errors import LearnaeError

    try:
        from learnae.task import load_task

        load_task(words[0], Path(words[1]) if len(words) > 1 else None)
    except LearnaeError as error:
        say(code=error.code, error=str(error))
    except Exception as error:
        say(code="task-failed", error=f"{type(error).__name__}: {error}"[:500])
    else:
        say(code=None, error=None)


if __name__ == "__main__":
    main(sys.argv[1:])
