"""Muon against torch's, which takes matrices only, and as one optimizer with AdamW."""

from __future__ import annotations

import copy

import torch
from torch import nn

from data_prep.world_models.muon import Muon, MuonAndAdamW, orthogonal


def test_an_update_is_the_nearest_orthogonal_matrix() -> None:
    for rows, columns in ((24, 40), (40, 24), (1, 8)):
        matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        update = orthogonal(matrix)
        assert torch.linalg.svdvals(update).sub(0.95).abs().max() < 0.3
        cosine = torch.nn.functional.cosine_similarity(update.flatten(), (left @ right).flatten(), 0)
        assert cosine > 0.97


def test_it_steps_as_torchs_muon_does() -> None:
    """But for bfloat16, in which torch iterates."""
    torch.manual_seed(0)
    ours = torch.randn(12, 20, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    before = ours.detach().clone()
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    optimizer = Muon([ours], lr=0.01)
    for _ in range(3):
        gradient = torch.randn(12, 20)
        for weight, chosen in ((ours, optimizer), (theirs, reference)):
            weight.grad = gradient.clone()
            chosen.step()
    torch.testing.assert_close(ours - before, theirs - before, atol=2e-4, rtol=0.05)


def test_a_kernel_is_the_matrix_of_its_output_channels() -> None:
    kernel = torch.zeros(6, 4, 3, 3, requires_grad=True)
    matrix = torch.zeros(6, 36, requires_grad=True)
    gradient = torch.randn(6, 36, generator=torch.Generator().manual_seed(0))
    kernel.grad, matrix.grad = gradient.view(6, 4, 3, 3), gradient
    Muon([kernel, matrix], lr=1.0).step()
    assert torch.equal(kernel.flatten(1), matrix) and matrix.abs().max() > 0


def test_ends_biases_and_gains_are_adamws_and_both_resume() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"conv_in": nn.Conv2d(1, 4, 3), "middle": nn.Conv2d(4, 4, 3), "norm": nn.GroupNorm(2, 4)})

    def loss(model: nn.Module) -> torch.Tensor:
        image = torch.arange(36.0).view(1, 1, 6, 6) / 36
        return (model["norm"](model["middle"](model["conv_in"](image))) - image[:, :, :2, :2]).pow(2).mean()  # type: ignore[index]

    optimizer = MuonAndAdamW(model, 0.01)
    assert [len(weights.param_groups[0]["params"]) for weights in (optimizer.muon, optimizer.adamw)] == [1, 5]
    before = loss(model).item()
    for _ in range(20):
        optimizer.step(loss(model), 1.0)
    assert loss(model).item() < 0.8 * before
    twin = copy.deepcopy(model)
    resumed = MuonAndAdamW(twin, 0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for those, chosen in ((model, optimizer), (twin, resumed)):
        chosen.step(loss(those), 0.5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_no_rate_moves_nothing() -> None:
    model = nn.ModuleDict({"middle": nn.Linear(4, 4), "head": nn.Linear(4, 1)})
    before = copy.deepcopy(model)
    MuonAndAdamW(model, 0.01).step(model["head"](model["middle"](torch.ones(1, 4))).sum(), 0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
