"""PriorNetwork against diffusers' PriorTransformer, and against itself in other batches."""

from __future__ import annotations

import pytest
import torch
from diffusers import PriorTransformer
from torch import Tensor
from torch.nn import functional as F

from eclipse_pl.embedding import TextCondition
from eclipse_pl.priors.network import PriorNetwork

RAGGED = [3, 77, 12, 13, 40, 5, 76]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def captions(lengths: list[int], dim: int, width: int | None = None, seed: int = 0) -> TextCondition:
    draw = torch.Generator().manual_seed(seed)
    width = dim if width is None else width
    return TextCondition(
        torch.randn(len(lengths), dim, generator=draw),
        torch.randn(sum(lengths), width, generator=draw),
        torch.tensor(lengths),
    )


def network(dim: int = 24, layers: int = 3, heads: int = 4, head_dim: int = 8, **kwargs: object) -> PriorNetwork:
    """Random everywhere: a fresh network's position and prd embeddings are zero, and would hide a wrong place."""
    torch.manual_seed(0)
    kwargs.setdefault("text_width", dim)
    built = PriorNetwork(dim, num_layers=layers, num_attention_heads=heads, attention_head_dim=head_dim, **kwargs)  # type: ignore[arg-type]
    torch.nn.init.normal_(built.positional_embedding, std=0.3)
    torch.nn.init.normal_(built.prd_embedding, std=0.3)
    return built


def padded(text: TextCondition, context_length: int = 77) -> tuple[Tensor, Tensor]:
    """Text states and attention mask as diffusers takes them."""
    mask = torch.arange(context_length) < text.lengths[:, None]
    states = text.text_states.new_zeros(len(text), context_length, text.text_states.shape[1])
    return states.index_put((mask,), text.text_states), mask


def with_time(reference: PriorTransformer, noise: Tensor, text: TextCondition, time: Tensor | None) -> Tensor:
    states, mask = padded(text)
    prediction: Tensor = reference(noise, time, text.text_embed, states, mask).predicted_image_embedding
    return prediction


def without_time(reference: PriorTransformer, noise: Tensor, text: TextCondition, time: Tensor | None) -> Tensor:
    """The forward pass of ECLIPSE's inference code, which leaves diffusers' time token out, on diffusers' own blocks."""
    states, mask = padded(text)
    tokens = [
        reference.encoder_hidden_states_proj(states),
        reference.embedding_proj(text.text_embed)[:, None],
        reference.proj_in(noise)[:, None],
        reference.prd_embedding.expand(len(text), -1, -1),
    ]
    hidden = torch.cat(tokens, dim=1) + reference.positional_embedding
    hidden_mask = F.pad((1 - mask.float()) * -10_000.0, (0, 3))[:, None] + reference.causal_attention_mask
    hidden_mask = hidden_mask.repeat_interleave(reference.config.num_attention_heads, dim=0)
    for block in reference.transformer_blocks:
        hidden = block(hidden, attention_mask=hidden_mask)
    prediction: Tensor = reference.proj_to_clip_embeddings(reference.norm_out(hidden)[:, -1])
    return prediction


@pytest.mark.long
@pytest.mark.parametrize(
    ("dim", "layers", "heads", "head_dim", "lengths"),
    [(24, 3, 4, 8, RAGGED), (24, 1, 2, 4, [7, 7, 7]), (768, 10, 16, 32, [3, 77, 13])],
    ids=["ragged", "one_layer", "ECLIPSE"],
)
@pytest.mark.parametrize("time_embedding", [False, True])
def test_equals_diffusers(dim: int, layers: int, heads: int, head_dim: int, lengths: list[int], time_embedding: bool) -> None:
    ours = network(dim, layers, heads, head_dim, time_embedding=time_embedding)
    reference = PriorTransformer(heads, head_dim, layers, dim, additional_embeddings=4 if time_embedding else 3)
    state = ours.state_dict()
    if not time_embedding:
        state |= {key: value for key, value in reference.state_dict().items() if key.startswith("time_embedding.")}
    reference.load_state_dict(state, strict=True)

    text, noise = captions(lengths, dim), torch.randn(len(lengths), dim)
    time = torch.randint(0, 1000, (len(lengths),)) if time_embedding else None
    inputs = [noise, text.text_embed, text.text_states]
    results = []
    for model, forward in (
        (ours, ours),
        (reference, lambda *args: (with_time if time_embedding else without_time)(reference, *args)),
    ):
        for tensor in inputs:
            tensor.grad = None
            tensor.requires_grad_()
        prediction = forward(noise, text, time)
        (prediction * torch.linspace(-1, 1, dim)).sum(1).mean().backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((prediction.detach(), grads, [tensor.grad for tensor in inputs]))

    (prediction, grads, input_grads), (expected, expected_grads, expected_input_grads) = results
    torch.testing.assert_close(prediction, expected, atol=1e-5, rtol=0)
    assert grads.keys() == expected_grads.keys() == dict(ours.named_parameters()).keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for grad, expected_grad in zip(input_grads, expected_input_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, atol=1e-5, rtol=1e-5)


def test_weights_are_named_as_in_diffusers() -> None:
    reference = PriorTransformer(4, 8, 3, 24)
    assert {k: v.shape for k, v in network(time_embedding=True).state_dict().items()} == {
        k: v.shape for k, v in reference.state_dict().items()
    }


@pytest.mark.parametrize(("dim", "count"), [(768, 33_143_040), (1280, 34_193_152)])
def test_size_is_eclipses(dim: int, count: int) -> None:
    with torch.device("meta"):
        built = PriorNetwork(dim, dim)
    assert sum(p.numel() for p in built.state_dict().values()) == count


@pytest.mark.parametrize("time_embedding", [False, True])
def test_equals_itself_whatever_the_batch(time_embedding: bool) -> None:
    built = network(time_embedding=time_embedding)
    text, noise = captions([*RAGGED, 0], 24), torch.randn(8, 24)
    time = torch.arange(8) * 100 if time_embedding else None
    together = built(noise, text, time)
    for rows in ([0], [1], [7], [2, 3], [6, 0, 4], [7, 1, 2, 5]):
        apart = built(noise[rows], text.select(rows), None if time is None else time[rows])
        torch.testing.assert_close(apart, together[rows], atol=1e-6, rtol=0)


def test_captions_without_token_states() -> None:
    built = network()
    text = captions([0, 0, 0], 24)
    prediction = built(torch.randn(3, 24), text)
    prediction.square().sum().backward()
    assert prediction.isfinite().all()
    # DistributedDataParallel waits for the gradient of every parameter, also of those without a token to act on.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


def test_text_width_may_differ_from_dim() -> None:
    built = network(text_width=40)
    assert built(torch.randn(2, 24), captions([4, 9], 24, width=40)).shape == (2, 24)


def test_position_is_that_of_the_padded_layout() -> None:
    """Extra tokens stand behind the longest possible caption, so a caption's own length moves nothing."""
    built = network()
    text, noise = captions([4], 24), torch.randn(1, 24)
    before = built(noise, text)
    with torch.no_grad():
        built.positional_embedding[:, 4:77] += 1
    torch.testing.assert_close(built(noise, text), before, atol=0, rtol=0)
    with torch.no_grad():
        built.positional_embedding[:, 78] += torch.randn(32)
    assert (built(noise, text) - before).abs().max() > 1e-3


def test_bfloat16_autocast_stays_near() -> None:
    built = network()
    text, noise = captions(RAGGED, 24), torch.randn(len(RAGGED), 24)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = built(noise, text)
    narrow.sum().backward()
    assert (narrow.float() - built(noise, text)).abs().max() < 0.05


def test_caption_longer_than_the_context() -> None:
    with pytest.raises(ValueError, match="has 17 tokens; this network reads at most 16"):
        network(context_length=16)(torch.randn(2, 24), captions([17, 3], 24))


def test_lengths_that_do_not_add_up() -> None:
    text = captions([5, 3], 24)
    with pytest.raises(ValueError, match="add up to 9 tokens, but there are 8"):
        network()(torch.randn(2, 24), TextCondition(text.text_embed, text.text_states, torch.tensor([5, 4])))


@pytest.mark.parametrize("size", ["num_layers", "num_attention_heads", "attention_head_dim"])
def test_sizes_are_at_least_one(size: str) -> None:
    with pytest.raises(ValueError, match=f"{size} is 0"):
        PriorNetwork(8, 8, **{size: 0})


def test_statistics_travel_with_the_weights() -> None:
    built, fresh = network(), network()
    mean, std = torch.randn(24), torch.rand(24) + 0.5
    built.set_statistics(mean, std)
    fresh.load_state_dict(built.state_dict())
    embed = torch.randn(5, 24)
    torch.testing.assert_close(fresh.standardise(embed), (embed - mean) / std)
    torch.testing.assert_close(fresh.raw(fresh.standardise(embed)), embed)


def test_a_constant_dimension_cannot_be_standardised() -> None:
    with pytest.raises(ValueError, match="2 dimensions cannot be standardised"):
        network().set_statistics(torch.zeros(24), torch.cat([torch.zeros(2), torch.ones(22)]))
