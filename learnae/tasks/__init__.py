"""The built-in tasks, by name; used by `learnae.task.load_task` and by command-line help."""

from typing import Final

BUILT_IN: Final = {
    "digits": "learnae.tasks.digits:Digits",
    "fashion-mnist": "learnae.tasks.fashion:FashionMnist",
}
"""Name -> where the class is, imported only when asked for: torch and the data sets take their time."""

LOOP: Final = "loop"
"""In the place of a task: the training loop of the user's own script, which attaches with `learnae.join`."""
