"""`join`: from a model, an optimiser and a topic to a `Swarm`; what scripts call."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from learnae import snapshot
from learnae.codec import CodecSettings
from learnae.config import Config
from learnae.config.parsers import parse
from learnae.config.sources import flag
from learnae.errors import ConfigError, LayoutError, WireError
from learnae.genesis import Genesis
from learnae.home import default_home
from learnae.loop.daemon import LocalDaemon
from learnae.loop.swarm import Evaluate, Swarm
from learnae.loop.weights import LiveWeights
from learnae.rules import Rules

_NOT_HERE: Final = ("topic", "task", "shard", "skew", "data", "init", "home", "profile", "seed", "limits", "rounds")


def join(
    topic: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    slot_seconds: float = 10.0,
    round_steps: int | None = None,
    rules: Rules | None = None,
    evaluate: Evaluate | None = None,
    seed: int | None = None,
    codec: CodecSettings | None = None,
    home: str | Path | None = None,
    profile: str | None = None,
    start: bool = True,
    limit: Mapping[str, object] | None = None,
    secret: str | None = None,
    **daemon: Any,
) -> Swarm:
    """Train ``model`` together with everybody else on ``topic``: a context manager around a training loop.

    It attaches to the daemon on this PC that waits for a script on this topic (``learnaed run --topic ... --task
    loop``), or starts one for the life of the block. The model's trainable floating-point parameters are shared;
    frozen ones, buffers and the optimiser's state stay here. Members of a swarm must have equal shared parameters, by
    name, shape and data type, ``slot_seconds``, ``round_steps`` and ``rules``.

    Args:
        topic: name of the swarm.
        model: what is trained, in place, on whatever device it is; compiled or not.
        optimizer: what trains it, or several: their state is saved for a restart. It is left alone when updates are
            merged, which change the weights far less than they change between two rounds, and cleared when the swarm's
            weights replace the model's altogether. None: it is not saved.
        slot_seconds: length of the clock slots to which everybody's rounds are aligned, 0.05 to 86400. Longer: less
            traffic, slower learning.
        round_steps: most steps in a slot; `Swarm.step` then waits for the next one. None: as many as fit, which suits
            PCs of unequal speed.
        rules: how often the swarm cuts its history, and what one update may do.
        evaluate: called with the model, holding the swarm's weights, between rounds for at most a twentieth of the
            time; returns figures such as ``accuracy``, which are shown in the status.
        seed: the initial weights are drawn anew from it, by the modules' own `reset_parameters`, so that everybody
            starts from equal ones. None: the model's weights as they are; of nodes that start from different ones, all
            go over to those behind which there is most work.
        codec: how the own updates are made.
        home: directory of the profiles; None: LEARNAE_HOME, or that of the user.
        profile: the daemon's profile. None: of any daemon that waits on this topic, or the next free one.
        start: whether a daemon may be started if none is there.
        limit: what the node may take of this PC, such as ``{"upload": "1 MB/s"}``, for a daemon that is started.
        secret: makes the swarm private, for a daemon that is started.
        **daemon: other settings of a daemon that is started, named as the fields of `learnae.config.Config`:
            ``listen``, ``peer``, ``secret_file``, ``mdns``, ``status_port``, ``log_level``, ...

    Raises:
        ConfigError: a setting is not valid.
        LayoutError: the model cannot be shared: it has complex, lazy or no trainable parameters, weights that are not
            finite, or is wrapped for training on several devices.
    """
    parse("topic", topic, "topic")
    flags = daemon_flags(daemon, limit)
    plain = unwrapped(model)
    if seed is not None:
        draw_weights(plain, seed)
    optimizers = () if optimizer is None else optimizer if isinstance(optimizer, Sequence) else (optimizer,)
    weights = LiveWeights(plain, optimizers, codec)
    genesis = Genesis(
        weights.layout,
        weights.exponents,
        snapshot.root_of(weights.replica.pieces()).cid,
        float(slot_seconds),
        round_steps,
        rules or Rules(),
    )
    try:
        Genesis.from_wire(genesis.to_wire())
    except WireError as error:
        raise ConfigError(
            f"this cannot be shared: {error}. Give slot_seconds from 0.05 to 86400, and round_steps from 1",
            code="bad-setting",
        ) from error
    where = Path(home or os.environ.get("LEARNAE_HOME") or default_home()).expanduser().absolute()
    environment = {"LEARNAE_SECRET": secret} if secret is not None else {}
    local = LocalDaemon(where, topic, profile, flags, environment, start=start)
    return Swarm(weights, topic, local, genesis, evaluate, resumes=seed is None)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model behind `torch.compile`. Raises `LayoutError` for wrappers that spread it over devices."""
    model = getattr(model, "_orig_mod", model)
    for module in model.modules():
        if type(module).__name__ in ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"):
            raise LayoutError(
                f"the model is wrapped in {type(module).__name__}, whose processes a merge would set apart: "
                "train it in one process to share it with a swarm",
                code="model-unshareable",
            )
    return model.module if isinstance(model, nn.DataParallel) else model


def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw the initial weights anew, leaving torch's random numbers as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def daemon_flags(settings: Mapping[str, Any], limit: Mapping[str, object] | None) -> list[str]:
    """The flags of `learnaed run` for these settings. Raises `ConfigError` for one that there is not."""
    known = [field.name for field in fields(Config) if field.name not in _NOT_HERE]
    flags: list[str] = []
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *(join.__kwdefaults__ or ())], n=1, cutoff=0)[0]
            raise ConfigError(f"{name!r} is no setting of learnae.join. Did you mean {near!r}?", code="unknown-setting")
        if value is None:
            continue
        if isinstance(value, bool):
            flags.append(flag(name) if value else f"--no-{name}")
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            parse(name, (str(item),) if isinstance(value, list | tuple) else item, name)
            flags += [flag(name), str(item)]
    for name, value in (limit or {}).items():
        flags += ["--limit", f"{name}={value}"]
    return flags
