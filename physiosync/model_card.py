"""The README.md that lies beside an encoder's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import physiosync
from physiosync.model_config import ROLES, ModelConfig

_PAIRS = {
    "stimulus": "people who met the same stimulus at the same time",
    "recording": "EEG and PPS of one person, and neighbouring windows; no stimulus is shared",
}

_FIRST = ("data", "protocol")


def model_card(config: ModelConfig, metrics: Mapping[str, Any]) -> str:
    """Say what the encoder was made from, what it has to be fed, and how well it did.

    Parameters
    ----------
    metrics : name -> number, word or settings. "data" and "protocol" stand first
    """
    lags = ", ".join(f"{name} {s:g} s" for name, s in config.pps_lag_seconds.items())
    pps = ", ".join(n for names in config.pps_channels.values() for n in names)
    first = [f"* {name.capitalize()}: {metrics[name]}" for name in _FIRST if name in metrics]
    rows = {name: value for name, value in metrics.items() if name not in _FIRST}
    sizes = [f"{role} (B, {config.n_chans(role)}, {config.long_times})" for role in ROLES]
    text = f"""---
library_name: physiosync
tags: [eeg, physiological-signals, self-supervised]
---
# PhysioSync encoder

Made by physiosync {physiosync.__version__}. Encodes {config.long_times} samples at
{config.sfreq:g} Hz ({config.long_pieces} pieces of {config.short_seconds:g} s).

{_lines(first)}* EEG channels, in order: {", ".join(config.eeg_channels)}
* PPS channels, in order: {pps}; windows start later than the EEG's by {lags}
* Inputs are standardised: {config.scaling} (see `physiosync.scaling` and `help(model.embed)`)
* Pairs of pretraining: {config.pairing} ({_PAIRS[config.pairing]})

```python
from physiosync.model import PhysioSync

model = PhysioSync.from_pretrained("PATH OF THIS FOLDER")
vectors = model.embed(eeg, pps)  # {", ".join(sizes)}
```
"""
    plain = {name: value for name, value in rows.items() if not isinstance(value, Mapping)}
    if plain:
        text += "\n| what | value |\n|---|---|\n"
        text += _lines([f"| {name.replace('_', ' ')} | {_cell(v)} |" for name, v in plain.items()])
    for name, value in rows.items():
        if isinstance(value, Mapping):
            text += f"\nSettings of {name}:\n\n```json\n{json.dumps(value, indent=1)}\n```\n"
    return text


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
