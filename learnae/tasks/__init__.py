"""The built-in tasks, by name; used by `learnae.task.load_task` and by command-line help."""

from typing import Final

BUILT_IN: Final = {
    "charlm": "learnae.tasks.charlm:CharLM",
    "cifar-10": "learnae.tasks.cifar:Cifar10",
    "digits": "learnae.tasks.digits:Digits",
    "fashion-mnist": "learnae.tasks.fashion:FashionMnist",
    "image-folders": "learnae.tasks.folders:ImageFolders",
    "mnist": "learnae.tasks.mnist:Mnist",
}
"""Name -> where the class is, imported only when asked for: torch and the data sets take their time."""

LOOP: Final = "loop"
"""In the place of a task: the training loop of the user's own script, which attaches with `learnae.join`."""
