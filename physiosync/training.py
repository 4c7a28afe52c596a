"""The risky code of training, once: seeds, optimiser, schedule, precision, state on disk."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from physiosync.errors import CheckpointError, PhysioSyncError
from physiosync.files import atomic_path

OptimiserKind = Literal["adamw", "adam"]


class DivergedError(PhysioSyncError):
    """The loss is no longer a finite number."""


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch.

    Only for what offers no generator of its own (dropout, initialisation); a reused worker process
    would otherwise carry the state of the trial before.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries read the global state
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """CUDA if there is any and `name` is "auto", else what is named."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


class Optimisation:
    """AdamW with a short warm-up and a cosine decay to a tenth, gradients clipped.

    Parameters
    ----------
    groups : one dict a parameter group: "params" and "lr", as torch takes them
    n_steps : steps of the whole run; the schedule ends there
    kind : "adam" adds the weight decay to the gradient, where Adam's steps drown its size, instead
        of shrinking the weights themselves. Without weight decay both are the same
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        weight_decay: float,
        n_steps: int,
        clip: float = 1.0,
        kind: OptimiserKind = "adamw",
    ) -> None:
        device = groups[0]["params"][0].device
        self.parameters = [p for group in groups for p in group["params"]]
        make = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
        self.optimiser = make(groups, weight_decay=weight_decay, fused=device.type == "cuda")
        warm_up = max(1, min(n_steps // 10, 50))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            done = (step - warm_up) / max(1, n_steps - warm_up)
            return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, factor)
        self._clip = clip

    def step(self, loss: Tensor) -> float:
        """One update; returns the loss.

        Raises
        ------
        DivergedError
            If the loss or its gradient is not finite; the weights are left as they were.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"expected a finite loss, found {value}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self._clip)
        if not torch.isfinite(norm):
            raise DivergedError(f"expected a finite gradient, found a norm of {float(norm)}")
        self.optimiser.step()
        self.schedule.step()
        return value

    def state_dict(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on CUDA, where it is faster and as accurate; nothing on a CPU."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values in one step."""
    with atomic_path(path) as part:
        torch.save(state, part)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; only tensors and plain values are ever unpickled.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds anything else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises a dozen kinds here (zip, pickle, EOF, runtime); each means the same.
        raise CheckpointError(
            path, "", expected="a training state", found=f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(path, "", expected="a dict", found=type(state).__name__)
    return state


def cloned(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the weights that later steps can't change."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
