"""What a study will cost on this machine: measured on a few steps of made-up signals."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import torch

from physiosync.losses import total_loss
from physiosync.options import StudyOptions
from physiosync.preparation import Source, file_of
from physiosync.pretraining_net import PretrainingNet
from physiosync.progress import readable
from physiosync.remote import url_of
from physiosync.splits import PROTOCOLS
from physiosync.windows import WindowStore
from physiosync.wording import counted, in_bytes

#: Share of the epochs that ASHA with a reduction of 3 lets run, for a few dozen trials.
_ASHA_SHARE = 0.35


def seconds_per_signal_second(options: StudyOptions, store: WindowStore) -> float:
    """Wall seconds that one trial needs for a second of signal, from three training steps."""
    torch.set_num_threads(max(1, int(options.cpus_per_trial)))
    config = options.pretraining
    model = config.model_config_for(store)
    net = PretrainingNet(model)
    lead = (config.moments, 2, config.group_size)
    windows = [torch.randn(*lead, model.n_chans(r), model.long_times) for r in ("eeg", "pps")]
    short = [x[..., : model.short_times] for x in windows]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for length, (eeg, pps) in (("long", windows), ("short", short)):
            losses = net.losses("long" if length == "long" else "short", eeg, pps, 0.1)
            total_loss(losses.eeg, losses.pps, losses.cmca).backward()
        times.append(time.perf_counter() - began)
    # The first step pays for allocations that the others don't.
    return float(np.median(times)) / (np.prod(lead) * config.long_seconds)


def forecast(options: StudyOptions, sources: Sequence[Source], store: WindowStore | None) -> str:
    """The stages with their jobs, and hours, memory and disk, as text.

    Parameters
    ----------
    sources : the recordings; none to take the shards as they are
    store : of existing shards; without it no speed can be measured yet
    """
    o = options
    files = set(map(file_of, sources)) or set(store.paths if store is not None else ())
    size = sum(path.stat().st_size for path in files)
    jobs = o.finalists * o.finalist_folds * o.finalist_seeds
    searches = 1 if o.reuse_search else o.folds
    people = len(sources) or (0 if store is None else store.trials["subject"].nunique())
    each = people if o.protocol in ("stimulus", "window") and not o.pooled else 1
    # From scratch alone, and after everyone's labels.
    rivals = 1 if o.protocol == "window" else 2
    lines = [
        f"study {o.name!r} in {o.results_url or o.folder}",
        f"  protocol     {o.protocol}: {PROTOCOLS[o.protocol]}"
        + ("; its audit fails and says so" if o.protocol == "window" else ""),
        f"  recordings   {len(sources)} in {o.recordings}"
        if sources
        else f"  recordings   none; {counted(people, 'shard')} as they are",
        f"  shards       {url_of(o.shards_folder)}",
        *_folds(o),
        f"  search       {counted(o.trials, 'trial')} of up to {counted(o.max_epochs, 'epoch')}",
        f"  finalists    {counted(jobs, 'run')} ({o.finalists} x "
        f"{counted(o.finalist_folds, 'fold')} x {counted(o.finalist_seeds, 'seed')})",
        f"  controls     {counted(2 * o.controls, 'run')}: within-subject SimCLR, shuffled pairs"
        + ("; and the network on everyone's labels, as long as one" if rivals > 1 else ""),
        f"  fine-tuning  {counted(each * (o.promote + rivals), 'job')}, and baselines",
    ]
    if sources or store is not None:
        beside = "the recordings" if sources else "the shards"
        what = "shards and mapped windows" if sources else "mapped windows"
        lines.append(f"  on disk      about {in_bytes(size * 1.1)} of {what} beside {beside}")
    if store is None:
        lines.append("  hours        prepare the shards first; then the speed can be measured")
        return "\n".join(lines)
    slots = max(1, int((os.cpu_count() or 1) / o.cpus_per_trial))
    runs = jobs + 2 * o.controls
    epochs = (searches * o.trials * _ASHA_SHARE + o.folds * runs) * o.max_epochs
    seconds = epochs * o.epoch_seconds * seconds_per_signal_second(o, store) * 1.2 / slots
    return "\n".join(
        [
            *lines,
            f"  time         about {readable(seconds)} for search, finalists and controls on this "
            f"machine, as busy as it is now ({counted(slots, 'trial')} at once)",
        ]
    )


def _folds(o: StudyOptions) -> list[str]:
    """What --folds multiplies."""
    if o.folds == 1:
        return []
    if o.reuse_search:
        return [f"  folds        {o.folds}: this search once, and for each fold what follows it"]
    return [f"  folds        {o.folds}, and for each this search and what follows it"]
