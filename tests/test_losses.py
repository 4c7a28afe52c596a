"""The losses against slow, obvious loops, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from physiosync.losses import (
    PAPER_WEIGHTS,
    cm_ca,
    ls_tcl,
    nt_xent,
    pool_group,
    retrieval_accuracy,
    total_loss,
)

shapes = st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(1, 6))
temperatures = st.floats(0.05, 2.0)
seeds = st.integers(0, 10_000)
quick = settings(max_examples=25, deadline=None)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y) / (float(x.norm()) * float(y.norm()))


def slow_nt_xent(a: Tensor, b: Tensor, temperature: float) -> float:
    total = 0.0
    for one, other in ((a, b), (b, a)):
        for i in range(len(one)):
            positive = math.exp(_cosine(one[i], other[i]) / temperature)
            negatives = 0.0
            for j in range(len(one)):
                if j != i:
                    negatives += math.exp(_cosine(one[i], other[j]) / temperature)
                    negatives += math.exp(_cosine(one[i], one[j]) / temperature)
            total -= math.log(positive / (positive + negatives)) / len(one)
    return total


def slow_pool(x: Tensor) -> Tensor:
    m, n, p = x.shape
    return torch.tensor(
        [[max(float(x[i, k, j]) for k in range(n)) for j in range(p)] for i in range(m)],
        dtype=x.dtype,
    )


# ------------------------------------------------------------------------- against the slow loops


@quick
@given(shapes, temperatures, seeds)
def test_nt_xent_is_the_loop(shape: tuple[int, int, int], temperature: float, seed: int) -> None:
    m, _, p = shape
    a, b = _normal(seed, m, p), _normal(seed + 1, m, p)
    assert nt_xent(a, b, temperature).item() == pytest.approx(
        slow_nt_xent(a, b, temperature), rel=1e-9
    )


@quick
@given(shapes, seeds)
def test_pool_group_is_the_loop(shape: tuple[int, int, int], seed: int) -> None:
    x = _normal(seed, *shape)
    assert torch.equal(pool_group(x), slow_pool(x))


@quick
@given(shapes, temperatures, seeds)
def test_ls_tcl_is_the_loop(shape: tuple[int, int, int], temperature: float, seed: int) -> None:
    a, b = _normal(seed, *shape), _normal(seed + 1, *shape)
    assert ls_tcl(a, b, temperature).item() == pytest.approx(
        slow_nt_xent(slow_pool(a), slow_pool(b), temperature), rel=1e-9
    )


class _RecordingHead(nn.Module):
    """A fixed linear map and batch norm by hand, that remembers what it was called with."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(x)
        y = x @ self.weight
        return (y - y.mean(0)) / y.std(0, correction=0)


@quick
@given(shapes, temperatures, seeds)
def test_cm_ca_is_the_loop(shape: tuple[int, int, int], temperature: float, seed: int) -> None:
    m, _, p = shape
    eeg_1, eeg_2, pps_1, pps_2 = (_normal(seed + i, m, p) for i in range(4))
    head = _RecordingHead(_normal(seed + 9, p, 5))
    loss = cm_ca(eeg_1, eeg_2, pps_1, pps_2, head, temperature)
    assert len(head.calls) == 2, "once for each modality: batch norm must not mix them"
    eeg = head(torch.cat([eeg_1, eeg_2]))
    pps = head(torch.cat([pps_1, pps_2]))
    expected = 0.5 * (
        slow_nt_xent(pps[:m], eeg[m:], temperature) + slow_nt_xent(eeg[:m], pps[m:], temperature)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_total_weighs_each_term() -> None:
    terms = [torch.tensor(v) for v in (1.0, 10.0, 100.0)]
    assert PAPER_WEIGHTS == (0.5, 0.5, 1.0)
    assert total_loss(*terms).item() == 105.5
    assert total_loss(*terms, weights=(2.0, 3.0, 4.0)).item() == 432.0


# ------------------------------------------------------------------------------------ invariances


@quick
@given(shapes, seeds)
def test_nt_xent_ignores_lengths_order_and_which_group_is_first(
    shape: tuple[int, int, int], seed: int
) -> None:
    m, _, p = shape
    a, b = _normal(seed, m, p), _normal(seed + 1, m, p)
    expected = pytest.approx(nt_xent(a, b, 0.3).item(), rel=1e-9)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
    lengths = torch.rand(m, 1, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert nt_xent(b, a, 0.3).item() == expected
    assert nt_xent(a[order], b[order], 0.3).item() == expected
    assert nt_xent(a * lengths, b * 7, 0.3).item() == expected


def test_nt_xent_is_lower_for_true_pairs_than_for_others() -> None:
    a = _normal(0, 16, 8)
    b = a + 0.1 * _normal(1, 16, 8)
    assert nt_xent(a, b, 0.1) < nt_xent(a, b.roll(1, 0), 0.1) - 1


def test_negatives_come_from_both_groups() -> None:
    a = b = torch.eye(2, dtype=torch.float64)
    # One positive (similarity 1), one negative in each group (similarity 0); two directions.
    expected = 2 * math.log(1 + 2 * math.exp(-1 / 0.5))
    assert nt_xent(a, b, 0.5).item() == pytest.approx(expected)


def test_cm_ca_sets_groups_crosswise() -> None:
    shared = _normal(0, 6, 4)
    other = _normal(1, 6, 4)
    head = nn.Identity()
    crossed = cm_ca(shared, other, other, shared, head, 0.1)
    alongside = cm_ca(shared, other, shared, other, head, 0.1)
    assert crossed < 0.5 < alongside


@quick
@given(shapes, seeds)
def test_pooling_ignores_the_order_of_subjects(shape: tuple[int, int, int], seed: int) -> None:
    x = _normal(seed, *shape)
    assert torch.equal(pool_group(x), pool_group(x.flip(1)))


def test_all_inputs_get_a_gradient() -> None:
    inputs = [_normal(i, 5, 3).requires_grad_() for i in range(4)]
    head = nn.Linear(3, 4, dtype=torch.float64)
    cm_ca(*inputs, head, 0.2).backward()
    assert all(x.grad is not None and bool((x.grad != 0).any()) for x in inputs)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), inputs[:2])


def test_half_precision_inputs_are_compared_in_float32() -> None:
    a, b = _normal(0, 8, 16).bfloat16(), _normal(1, 8, 16).bfloat16()
    expected = nt_xent(a.float(), b.float(), 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nt_xent(a, b, 0.05)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


def test_zero_and_huge_projections_stay_finite() -> None:
    a = torch.zeros(4, 3, requires_grad=True)
    loss = nt_xent(a, torch.full((4, 3), 1e30), 0.05)
    loss.backward()
    assert loss.isfinite()
    assert a.grad is not None
    assert a.grad.isfinite().all()


# -------------------------------------------------------------------------------------- retrieval


def test_retrieval_counts_nearest_neighbours_in_both_directions() -> None:
    a = torch.eye(4)
    assert retrieval_accuracy(a, 3 * a) == 1.0
    assert retrieval_accuracy(a, a.roll(1, 0)) == 0.0
    # Forth: rows 0, 1, 2 find themselves and 3 finds 2. Back: 0, 1, 2 do, and 3 (nothing) takes 0.
    b = torch.eye(4)
    b[2, 3] = 0.5
    b[3] = -b[3]
    assert retrieval_accuracy(a, b) == pytest.approx(6 / 8)


def test_retrieval_of_a_collapsed_encoder_is_chance() -> None:
    assert retrieval_accuracy(torch.ones(8, 4), torch.ones(8, 4)) == 1 / 8


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nt_xent(x, x[:, :2], 0.1), r"one shape, but got \(3, 4\), \(3, 2\)"),
        (lambda x: nt_xent(x[:1], x[:1], 0.1), "at least 2 moments .* but got 1"),
        (lambda x: nt_xent(x, x, 0.0), "temperature must be positive, but got 0.0"),
        (lambda x: nt_xent(x, x, math.nan), "temperature must be positive, but got nan"),
        (lambda x: nt_xent(x[None], x[None], 0.1), r"must be \(M, P\)"),
        (lambda x: pool_group(x), r"\(M, N >= 1, P\), but got \(3, 4\)"),
        (lambda x: pool_group(x[:, None][:, :0]), r"but got \(3, 0, 4\)"),
        (lambda x: cm_ca(x, x, x, x[:2], nn.Identity(), 0.1), r"but got \(3, 4\), \(2, 4\)"),
        (lambda x: cm_ca(x, x, x, x[:, :2], nn.Identity(), 0.1), r"but got \(3, 4\), \(3, 2\)"),
        (lambda x: retrieval_accuracy(x[:1], x[:1]), "at least 2 moments .* but got 1"),
        (lambda x: retrieval_accuracy(x, x[:2]), "one shape, but got"),
        (lambda x: total_loss(x, x, x, (1.0, 2.0)), r"three finite .* but got \(1.0, 2.0\)"),
        (lambda x: total_loss(x, x, x, (1.0, -1.0, 0.0)), "three finite .* but got"),
        (lambda x: total_loss(x, x, x, (1.0, math.nan, 0.0)), "three finite .* but got"),
        (lambda x: total_loss(x, x, x, (0.0, 0.0, 0.0)), "not all 0, but got"),
    ],
)
def test_errors_say_what_was_found(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(torch.randn(3, 4))
