"""Eq. 3 and Eq. 4 against sums written out, and 2 processes of B pairs against 1 of 2B."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from eclipse_pl.arguments import one_of
from eclipse_pl.embedding import ClipSpace, EmbeddingBatch, TextCondition
from eclipse_pl.losses import contrastive_loss, duplicates, gather_ranks, projection_loss
from eclipse_pl.priors.eclipse import EclipsePrior


def test_projection_loss_is_equation_3() -> None:
    prediction, image = torch.randn(5, 7), torch.randn(5, 7)
    squared_norms = [
        sum((float(a) - float(b)) ** 2 for a, b in zip(*pair, strict=True)) for pair in zip(prediction, image, strict=True)
    ]
    expected = sum(squared_norms) / 5
    assert float(projection_loss(prediction, image, "sum")) == pytest.approx(expected, rel=1e-5)
    assert float(projection_loss(prediction, image)) == pytest.approx(expected / 7, rel=1e-5)


def written_out(rows: Tensor, columns: Tensor, temperature: float, positives: list[int]) -> float:
    total = 0.0
    for row, positive in zip(rows.double(), positives, strict=True):
        scores = [math.exp(float(row @ column / (row.norm() * column.norm())) / temperature) for column in columns.double()]
        total -= math.log(scores[positive] / sum(scores))
    return total / len(rows)


def test_contrastive_loss_is_equation_4() -> None:
    rows, columns = torch.randn(4, 6), torch.randn(9, 6)
    assert float(contrastive_loss(rows, columns[:4], 0.1)) == pytest.approx(
        written_out(rows, columns[:4], 0.1, [0, 1, 2, 3]), rel=1e-5
    )
    positives = [5, 0, 8, 3]
    assert float(contrastive_loss(rows, columns, 0.5, torch.tensor(positives))) == pytest.approx(
        written_out(rows, columns, 0.5, positives), rel=1e-5
    )


def test_contrastive_loss_does_not_see_norms() -> None:
    rows, columns = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(contrastive_loss(3 * rows, columns * 0.2, 0.07), contrastive_loss(rows, columns, 0.07))


def test_ignored_columns_are_as_if_absent() -> None:
    rows, columns = torch.randn(3, 6), torch.randn(4, 6)
    ignored = torch.zeros(3, 4, dtype=torch.bool)
    ignored[:, 3] = True
    torch.testing.assert_close(contrastive_loss(rows, columns, 0.1, ignored=ignored), contrastive_loss(rows, columns[:3], 0.1))
    everything = torch.ones(3, 4, dtype=torch.bool)
    assert float(contrastive_loss(rows, columns, 0.1, ignored=everything)) == pytest.approx(0, abs=1e-6)


def test_hard_negatives_are_columns_of_no_row() -> None:
    rows, columns, hard = torch.randn(3, 6), torch.randn(4, 6), torch.randn(3, 6)
    positives = torch.tensor([0, 2, 3])
    together = contrastive_loss(rows, torch.cat([columns, hard]), 0.1, positives)
    torch.testing.assert_close(contrastive_loss(rows, columns, 0.1, positives, hard_negatives=hard), together)
    ignored = torch.rand(3, 4) < 0.5
    expected = contrastive_loss(rows, torch.cat([columns, hard]), 0.1, positives, F.pad(ignored, (0, 3)))
    torch.testing.assert_close(contrastive_loss(rows, columns, 0.1, positives, ignored, hard), expected)


def test_absent_and_false_hard_negatives_are_left_out() -> None:
    rows, columns, hard = torch.randn(3, 6, requires_grad=True), torch.randn(3, 6), torch.randn(3, 6)
    hard[0] = math.nan
    hard[1] = columns[2] * 2
    expected = contrastive_loss(
        rows,
        torch.cat([columns, hard[1:]]),
        0.1,
        ignored=torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]).bool(),
    )
    loss = contrastive_loss(rows, columns, 0.1, hard_negatives=hard)
    torch.testing.assert_close(loss, expected)
    one, other = (torch.autograd.grad(found, rows)[0] for found in (loss, expected))
    torch.testing.assert_close(one, other)
    nothing = contrastive_loss(rows, columns, 0.1, hard_negatives=torch.full((3, 6), math.nan))
    torch.testing.assert_close(nothing, contrastive_loss(rows, columns, 0.1))


def test_duplicates_are_equal_directions() -> None:
    targets = torch.randn(4, 64)
    targets[2] = targets[0] * 3
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(duplicates(targets, targets), expected)
    near = torch.tensor([[1.0, 0.002], [1.0, 0.02]])  # 1 - cosine is 2e-6 and 2e-4
    assert duplicates(torch.tensor([[1.0, 0.0]]), near).tolist() == [[True, False]]


def test_losses_keep_float32_under_autocast() -> None:
    rows, columns = torch.randn(8, 64), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = contrastive_loss(rows, columns, 0.01)
        squares = projection_loss(rows.bfloat16(), columns)
    torch.testing.assert_close(narrow, contrastive_loss(rows, columns, 0.01), atol=0, rtol=0)
    assert squares.dtype == torch.float32


def test_unknown_reduction() -> None:
    with pytest.raises(ValueError, match=r"reduction is 'max'; choose one of 'mean', 'sum'\."):
        one_of("reduction", "max", ("mean", "sum"))


def test_one_process_gathers_nothing() -> None:
    rows = torch.randn(3, 4)
    assert gather_ranks(rows) is rows


RANKS, PAIRS, DIM = 2, 6, 16
FORMS = [
    {"target": target, "mask_duplicates": mask, "learn_temperature": mask, "temperature": 0.05, "contrastive_weight": weight}
    for target, mask, weight in (
        ("text", False, 0.2), ("image", False, 0.2), ("symmetric", False, 0.2), ("symmetric", True, 1.0), ("text", False, 0.0),
    )
]  # fmt: skip
FORMS.append({"hard_negatives": True, "temperature": 0.05})


class Losses(nn.Module):
    """DistributedDataParallel averages gradients only of what runs inside a module's forward."""

    def __init__(self, prior: EclipsePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, batch: EmbeddingBatch) -> dict[str, Tensor]:
        return self.prior.losses(batch)


def _prior(form: dict[str, object]) -> EclipsePrior:
    torch.manual_seed(0)
    space = ClipSpace("tiny", DIM, DIM, 8, "tiny", False, torch.zeros(DIM), torch.ones(DIM))
    prior = EclipsePrior(space, num_layers=1, num_attention_heads=2, attention_head_dim=8, noise="learned", **form)  # type: ignore[arg-type]
    # Zero in a fresh network, where the first layer norm divides by next to nothing and its gradients are huge.
    nn.init.normal_(prior.network.positional_embedding)
    nn.init.normal_(prior.network.prd_embedding)
    return prior


def _pairs() -> list[EmbeddingBatch]:
    """Every pair of the global batch; pairs 4 and 7 (of ranks 0 and 1) have one caption, pairs 2 and 9 one image."""
    draw = torch.Generator().manual_seed(1)
    pairs = []
    for number in range(RANKS * PAIRS):
        length = 1 + number % 5
        text = TextCondition(
            torch.randn(1, DIM, generator=draw), torch.randn(length, DIM, generator=draw), torch.tensor([length])
        )
        pairs.append(
            EmbeddingBatch(
                pairs[4].text if number == 7 else text,
                torch.randn(1, DIM, generator=draw),
                torch.tensor([number]),
                torch.tensor([2 if number == 9 else number]),
                negative_text_embed=_negative_text(number),
            )
        )
    return pairs


def _negative_text(number: int) -> Tensor:
    """Rank 1 has fewer of them than rank 0."""
    absent = number % 4 == 1 or number > 8
    return torch.full((1, DIM), math.nan) if absent else torch.randn(1, DIM, generator=torch.Generator().manual_seed(number))


def _join(pairs: list[EmbeddingBatch]) -> EmbeddingBatch:
    return EmbeddingBatch(
        TextCondition.join([pair.text for pair in pairs]),
        torch.cat([pair.image_embed for pair in pairs]),
        torch.cat([pair.index for pair in pairs]),
        torch.cat([pair.group for pair in pairs if pair.group is not None]),
        negative_text_embed=torch.cat([pair.negative_text_embed for pair in pairs if pair.negative_text_embed is not None]),
    )


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    batch = _join(_pairs()[rank * PAIRS : (rank + 1) * PAIRS])
    results = []
    for form in FORMS:
        prior = _prior(form)
        parallel = DistributedDataParallel(Losses(prior))
        losses = parallel(batch)
        losses["total"].backward()
        means = {name: loss.detach().clone() for name, loss in losses.items()}
        for mean in means.values():
            distributed.all_reduce(mean)
            mean /= RANKS
        prior.eval()
        alone = prior.losses(batch)["contrastive"].detach()
        own = _prior({**form, "negatives": "this_rank"}).train().losses(batch)["contrastive"].detach()
        results.append((means, {name: p.grad for name, p in prior.named_parameters()}, alone, own))
    torch.save(results, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def per_rank(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each rank of a group of two saw, for each of FORMS."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(_one_rank, args=(str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.processes
def test_two_ranks_equal_one(per_rank: list[Any]) -> None:
    whole = _join(_pairs())
    for number, form in enumerate(FORMS):
        prior = _prior(form)
        losses = prior.losses(whole)
        losses["total"].backward()
        for rank in range(RANKS):
            means, grads, _, _ = per_rank[rank][number]
            for name, loss in losses.items():
                torch.testing.assert_close(
                    means[name], loss.detach(), atol=1e-6, rtol=1e-6, msg=lambda m, f=form, n=name: f"{f} {n}: {m}"
                )
            assert grads.keys() == dict(prior.named_parameters()).keys()
            for name, parameter in prior.named_parameters():
                torch.testing.assert_close(
                    grads[name], parameter.grad, atol=1e-6, rtol=0, msg=lambda m, f=form, n=name: f"{f} {n}: {m}"
                )
            # In evaluation mode each rank is alone with its own pairs.
            prior.eval()
            torch.testing.assert_close(
                per_rank[rank][number][2],
                prior.losses(_join(_pairs()[rank * PAIRS : (rank + 1) * PAIRS]))["contrastive"].detach(),
            )


@pytest.mark.processes
def test_negatives_of_this_rank_are_those_of_no_other(per_rank: list[Any]) -> None:
    """In training, where all ranks' would be gathered: each rank's loss is that of its own pairs alone."""
    for number, form in enumerate(FORMS):
        for rank in range(RANKS):
            own = _join(_pairs()[rank * PAIRS : (rank + 1) * PAIRS])
            alone = _prior(form).train().losses(own)["contrastive"].detach()
            torch.testing.assert_close(per_rank[rank][number][3], alone, msg=lambda m, f=form: f"{f}: {m}")
            assert abs(alone - per_rank[rank][number][0]["contrastive"]) > 1e-3, "all ranks' negatives are another loss"


def test_negatives_of_one_rank_are_another_loss() -> None:
    """So the test above could fail."""
    form = {"temperature": 0.05}
    first, second, whole = (
        _prior(form).losses(_join(_pairs()[rows]))["contrastive"].item()
        for rows in (slice(PAIRS), slice(PAIRS, None), slice(None))
    )
    assert abs((first + second) / 2 - whole) > 0.1
