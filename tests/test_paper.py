"""`--preset paper` is what the paper says, number by number."""

from __future__ import annotations

import pytest
import torch
import tyro

from physiosync.options import StudyOptions, default_options
from physiosync.preprocessing import PreprocessingConfig
from physiosync.training import Optimisation

WORDS = ["--preset", "paper", "--protocol", "window", "--pooled"]


def parsed(*more: str) -> StudyOptions:
    words = [*WORDS, *more]
    return tyro.cli(StudyOptions, default=default_options(words, name="deap"), args=words)


def test_the_papers_configuration() -> None:
    o = parsed()
    assert (o.protocol, o.pooled, o.pps, o.threshold) == ("window", True, ("gsr",), 5.0)
    assert o.preprocessing == PreprocessingConfig(baseline="template", skin_conductance="raw")
    assert o.preprocessing.sfreq == 128
    assert o.stretch_seconds == 5
    assert (o.folds, o.test_share) == (10, 0.1)
    assert (o.trials, o.finalists, o.promote) == (1, 1, 1), "no search"

    p = o.pretraining
    assert (p.short_seconds, p.long_pieces) == (1, 5)
    assert (p.epochs, p.moments, p.group_size) == (500, 8, 2)
    assert p.steps == 54, "once through nine tenths of 480 moments, 8 a batch"
    assert (p.learning_rate, p.weight_decay, p.optimiser) == (7e-4, 1e-3, "adam")
    assert p.temperature == 0.1
    assert (p.w_eeg, p.w_pps, p.w_cmca) == (0.5, 0.5, 1.0)
    assert p.lag_seconds("gsr") == 0
    assert p.augmentation.recipe == "paper"
    assert (p.scaling, p.pairing, p.pairs) == ("paper", "stimulus", "matched")
    e = p.encoder
    assert (e.family, e.depth, e.heads, e.mlp_ratio, e.prompts) == ("multiview", 3, 4, 4, 2)
    assert (e.width_for(5), e.width_for(1), e.dropout) == (640, 128, 0.2)
    assert (e.projector, e.projector_dropout, e.cmca) == ((1024, 2048, 4096), 0.2, 1024)

    f = o.finetuning
    assert (f.epochs, f.batch_size, f.windows_per_trial, f.head_epochs) == (6, 256, 1, 0)
    assert (f.learning_rate, f.encoder_learning_rate, f.weight_decay) == (1e-3, 1e-3, 0)
    assert f.augmentation.scale_half_width == 0
    assert f.augmentation.noise_snr_db is None


def test_what_the_user_says_counts_more() -> None:
    o = parsed("--max-epochs", "7", "--trials", "16", "--pps", "gsr", "resp")
    assert (o.pretraining.epochs, o.trials, o.pretraining.pps) == (7, 16, ("gsr", "resp"))
    assert o.pretraining.moments == 8


def test_other_presets_and_protocols_keep_their_defaults() -> None:
    assert default_options([], name="deap") == StudyOptions(name="deap")
    assert default_options(["--protocol=window"], name="deap") == StudyOptions(name="deap")
    o = default_options(["--preset=paper"], name="deap")
    assert (o.max_epochs, o.trials, o.test_share) == (500, 64, 0.2)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_adds_the_decay_to_the_gradient_and_adamw_shrinks_the_weights(kind: str) -> None:
    """A gradient of 0: only the decay moves the weight."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    step = Optimisation(
        [{"params": [weight], "lr": 0.1}],
        weight_decay=0.01,
        n_steps=10,
        kind=kind,  # type: ignore[arg-type]
    )
    step.step(weight.sum() * 0)
    # Adam's first step is as long as the rate, however small the gradient.
    assert weight.item() == pytest.approx({"adam": 0.9, "adamw": 0.999}[kind], abs=1e-5)
