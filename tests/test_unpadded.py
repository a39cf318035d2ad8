"""Attention without padding: torch's variable-length kernel, replaced here by plain torch, against padded sequences."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import varlen

from eclipse_pl.priors import DiffusionPrior, EclipsePrior, Prior, unpadded
from eclipse_pl.priors.unpadded import needs_padding
from tests.helpers.every_prior import CONTEXT, DIM, SIZES, batch_of, build
from tests.helpers.fake_cuda import FakeCuda, NoCopies
from tests.test_buckets import in_buckets, results

LENGTHS = [3, 9, 2, 16, 5, 4]
DIRECT, DIFFUSION = (EclipsePrior, SIZES), (DiffusionPrior, SIZES | {"condition_dropout": 0.5, "steps": 2})
networks = pytest.mark.parametrize(("kind", "options"), [DIRECT, DIFFUSION], ids=["direct", "diffusion"])


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """What varlen_attn computes. Rows outside all sequences are NaN, as memory may be that nobody wrote."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert cu_seq_k[0] == 0 and cu_seq_k[-1] == len(key), "the kernel gives no gradient to keys outside all sequences"
    out = torch.full_like(query, torch.nan)
    both = [pairwise(starts.tolist()) for starts in (cu_seq_q, cu_seq_k)]
    for (first, end), (first_key, end_key) in zip(*both, strict=True):
        assert 0 <= end - first <= max_q and 0 <= end_key - first_key <= max_k
        assert (end > first) == (end_key > first_key), "a sequence has queries and keys, or neither"
        q, k, v = query[first:end], key[first_key:end_key], value[first_key:end_key]
        q, k, v = (rows.transpose(0, 1)[None] for rows in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=window_size == (-1, 0))
        out = torch.cat([out[:first], attended[0].transpose(0, 1), out[end:]])
    return out


@pytest.mark.long
@networks
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(0, CONTEXT), min_size=1, max_size=5), padded=st.booleans(), compiled=st.booleans())
@example(lengths=[CONTEXT] * 4, padded=True, compiled=False)
@example(lengths=[0, 0], padded=False, compiled=True)
@example(lengths=[2, 16, 9], padded=True, compiled=True)
def test_equals_padded_sequences(
    kind: type[Prior], options: dict[str, Any], lengths: list[int], padded: bool, compiled: bool
) -> None:
    prior, batch = build(kind, options), batch_of(lengths)
    expected = results(prior, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: compiled)  # dropped captions leave padding, then
        patch.setattr(unpadded, "reason_to_pad", lambda *_: None)
        patch.setattr(varlen, "varlen_attn", reference)
        found = results(prior, in_buckets(batch) if padded else batch)
    for one, other in zip(found, expected, strict=True):
        assert one.isfinite().all()
        assert (one - other).norm() <= 1e-5 * other.norm().clamp(min=1)


@pytest.fixture
def ampere() -> Iterator[None]:
    """Autocast in bfloat16 on the oldest GPU that has the kernel. torch.autocast does nothing where there is no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        yield
        torch.set_autocast_enabled("cuda", False)


@networks
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.usefixtures("ampere")
def test_half_precision_on_a_gpu(
    kind: type[Prior], options: dict[str, Any], padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch checks shapes and devices here as its kernel does, without numbers."""
    prior, batch = build(kind, options), batch_of(LENGTHS)
    batch = in_buckets(batch) if padded else batch
    types, kernel = [], varlen.varlen_attn

    def seen(query: Tensor, *arguments: Any, **options: Any) -> Any:
        types.append(query.dtype)
        return kernel(query, *arguments, **options)

    monkeypatch.setattr(varlen, "varlen_attn", seen)
    monkeypatch.setattr(unpadded, "takes_window", lambda: True)
    with FakeCuda() as gpu:
        gpu.moved(prior)
        batch = gpu.on_host(batch).to("cuda")
        with NoCopies():
            losses = prior.losses(batch)
            sample = prior.eval().sample(batch.text)
    assert all(loss.device.type == "cuda" and loss.shape == () for loss in losses.values())
    assert sample.shape == (len(LENGTHS), DIM)
    passes = 2 if kind is EclipsePrior else 1  # a diffusion prior samples from the keys and values of padded captions
    assert types == [torch.bfloat16] * passes * SIZES["num_layers"]


def test_an_older_kernel_is_causal_too() -> None:
    def older(query: Tensor, *sequences: Any, is_causal: bool = False) -> Tensor:
        """As in torch 2.10."""
        return reference(query, *sequences, window_size=(-1, 0) if is_causal else (-1, -1))

    prior, batch = build(*DIRECT), batch_of(LENGTHS)
    expected = results(prior, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpadded, "reason_to_pad", lambda *_: None)
        patch.setattr(varlen, "varlen_attn", older)
        found = results(prior, batch)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "reason"),
    [
        (torch.float32, 64, (9, 0), "half precision only. Set trainer.precision to bf16-mixed"),
        (torch.bfloat16, 20, (9, 0), "a multiple of 8, up to 256, and here it is 20"),
        (torch.float16, 512, (9, 0), "here it is 512"),
        (torch.float16, 64, (7, 5), "a GPU of the Ampere generation"),
    ],
)
def test_the_reason_for_padding_is_said_once(
    dtype: torch.dtype,
    head_dim: int,
    capability: tuple[int, int],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(unpadded, "_said", set())
    with caplog.at_level(logging.WARNING):
        assert [needs_padding(torch.device("cuda"), dtype, head_dim) for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1 and reason in caplog.text


def test_a_torch_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert unpadded.reason_to_pad(torch.device("cuda"), torch.float16, 64) is None
    monkeypatch.setattr(unpadded, "find_spec", lambda _: None)
    reason = unpadded.reason_to_pad(torch.device("cuda"), torch.float16, 64)
    assert reason is not None and "Install torch 2.11 or newer" in reason


def test_nothing_is_said_on_a_cpu(caplog: pytest.LogCaptureFixture) -> None:
    assert needs_padding(torch.device("cpu"), torch.bfloat16, 64) and not caplog.records


@pytest.mark.gpu
@networks
@pytest.mark.parametrize("padded", [False, True])
def test_the_kernel_equals_padded_sequences(kind: type[Prior], options: dict[str, Any], padded: bool) -> None:
    """bfloat16 has 8 bits; both ways round at other places."""
    prior, batch = build(kind, options).cuda(), batch_of([*LENGTHS, 0, CONTEXT] * 8)
    batch = (in_buckets(batch) if padded else batch).to("cuda")
    found = []
    for reason in (None, "to compare"):
        with pytest.MonkeyPatch.context() as patch, torch.autocast("cuda", torch.bfloat16):
            patch.setattr(unpadded, "reason_to_pad", lambda *_, reason=reason: reason)
            patch.setattr(unpadded, "_said", {reason})
            found.append(results(prior, batch))
    for one, other in zip(*found, strict=True):
        assert one.isfinite().all()
        assert (one - other).norm() <= 0.02 * other.norm().clamp(min=1)
