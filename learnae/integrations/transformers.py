"""`LearnaeCallback` for the Trainer of Hugging Face transformers; used by scripts with the extra `transformers`."""

from __future__ import annotations

from typing import Any

from learnae.errors import ConfigError
from learnae.integrations.membership import Membership, forward, missing

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise missing("transformers", error) from error


class LearnaeCallback(Membership, TrainerCallback):  # type: ignore[misc]
    """Trains the Trainer's model together with everybody else on ``topic``::

        Trainer(model, arguments, train_dataset=data, callbacks=[LearnaeCallback("my-swarm")]).train()

    Joins when the training begins, calls `Swarm.step` after each step of the optimiser, and leaves at its end; then the
    model has the swarm's weights. What is trainable is shared: of a model with LoRA adapters, the adapters.

    ``max_steps``, or what follows from the epochs, counts the steps of this node over all restarts: a script that is
    started again has its weights, its optimiser's state, and its learning rate schedule where they were. The data begin
    from the start unless the Trainer resumes from a checkpoint of its own.

    The loss in `learnae status` is the one that the Trainer logs (``logging_steps``). Arguments: see `Membership`.

    Raises, when the training begins:
        ConfigError: with ``load_best_model_at_end`` (the swarm has one model, which is not turned back) or DeepSpeed
            (which keeps a copy of the weights and writes it back).
        LayoutError: in several processes, or with a model that cannot be shared.
        DaemonError, TrainerError: as `Swarm.start`.
    """

    def __init__(self, topic: str, **settings: Any) -> None:
        super().__init__(topic, **settings)
        self._loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Join, and go on where this node was."""
        if args.load_best_model_at_end or args.deepspeed:
            what = "load_best_model_at_end" if args.load_best_model_at_end else "deepspeed"
            raise ConfigError(
                f"{what} puts weights of its own into the model, which would undo what the swarm has learned: leave it "
                "out of the TrainingArguments",
                code="bad-setting",
            )
        swarm = self._join(kwargs["model"], [kwargs["optimizer"]], args.world_size)
        self._loss = None
        forward([kwargs["lr_scheduler"]], swarm.steps - state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """A step of the optimiser is done: merge, and stop if the node was told to finish or has done all steps."""
        if self.swarm is None:
            return
        samples = (state.train_batch_size or args.train_batch_size) * args.gradient_accumulation_steps
        goes_on = self.swarm.step(samples, self._loss)
        self._loss = None
        if not goes_on or self.swarm.steps >= state.max_steps:
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """The mean loss since the last log goes with the next step."""
        self._loss = (logs or {}).get("loss", self._loss)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hand in the last round, and take over the swarm's weights."""
        self.close()
