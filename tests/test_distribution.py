"""FID, KID, CMMD and coverage: against closed forms and brute force, protocols kept apart, ranks gathered; FID's Inception."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, multiprocessing

from eclipse_pl.scorers.clip_towers import OpenClip, TransformersClip
from eclipse_pl.scorers.distribution import Coverage, cmmd, coverage, fid, kid
from eclipse_pl.scorers.feature_extractors import ClipFeatures, InceptionFeatures
from eclipse_pl.scorers.features import Features, extract, gather_features, reference_features
from eclipse_pl.scorers.inception import fid_inception, resize_like_tensorflow_1
from tests.helpers import features_rank
from tests.helpers.features_rank import Means, ModuleFeatures, images
from tests.helpers.tiny_scorers import broken_image, tiny_clip, tiny_image


def made(values: Tensor, **parts: Any) -> Features:
    names = tuple(f"{i:05d}" for i in range(len(values)))
    return Features(values, names, **{"extractor": "mine", "preparation": "none", **parts})


def gaussian(n: int, dim: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_fid_of_a_shift_is_its_square() -> None:
    values, shift = gaussian(50), torch.tensor([1.0, -2.0, 0.5, 0.0])
    assert fid(made(values), made(values + shift)) == pytest.approx(float(shift.square().sum()), abs=1e-5)
    assert fid(made(values), made(values)) == pytest.approx(0, abs=1e-9)


def test_fid_of_two_gaussians() -> None:
    """The trace term by symmetric square roots: Tr (A^1/2 B A^1/2)^1/2."""
    a, b = gaussian(60).double(), (gaussian(70, seed=1) @ gaussian(4, seed=2)).double() + 0.3
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    trace = torch.trace(cov_a + cov_b - 2 * root(root(cov_a) @ cov_b @ root(cov_a)))
    expected = float((a.mean(0) - b.mean(0)).square().sum() + trace)
    assert fid(made(a.float()), made(b.float())) == pytest.approx(expected, rel=1e-4)


def test_kid_is_the_unbiased_mmd_of_a_cubic_kernel() -> None:
    a, b = gaussian(30).double(), gaussian(30, seed=1).double() + 0.5
    kernel = lambda x, y: (x @ y.T / 4 + 1) ** 3  # noqa: E731
    apart = ~torch.eye(30, dtype=torch.bool)
    expected = kernel(a, a)[apart].mean() + kernel(b, b)[apart].mean() - 2 * kernel(a, b).mean()
    mean, deviation = kid(made(a.float()), made(b.float()), subsets=3, subset_size=30)  # every subset is all of them
    assert (mean, deviation) == (pytest.approx(float(expected), rel=1e-4), pytest.approx(0, abs=1e-6))


def test_fd_dinov2_is_the_distance_with_a_matrix_square_root() -> None:
    """By scipy's square root of the product of both covariances, as published code has it."""
    from scipy.linalg import sqrtm

    a, b = gaussian(90, 32), 0.7 * gaussian(70, 32, seed=1) + 0.2
    one, other = a.double().numpy(), b.double().numpy()
    root = sqrtm(np.cov(one, rowvar=False) @ np.cov(other, rowvar=False)).real
    trace = np.trace(np.cov(one, rowvar=False)) + np.trace(np.cov(other, rowvar=False)) - 2 * np.trace(root)
    expected = float(np.square(one.mean(0) - other.mean(0)).sum() + trace)
    assert fid(made(a), made(b), "FD-DINOv2") == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"FD-DINOv2 of 32 features needs at least 33 images on either side; 20 are gen"):
        fid(made(a), made(b[:20]), "FD-DINOv2")


def test_cmmd_is_the_sum_over_all_pairs() -> None:
    """With the pairs of an image with itself, in which it is biased."""
    a, b = gaussian(9).double(), gaussian(7, seed=1).double() + 0.5

    def mean_kernel(rows: Tensor, others: Tensor) -> float:
        total = 0.0
        for one in rows:
            for other in others:
                apart = one / one.square().sum().sqrt() - other / other.square().sum().sqrt()
                total += math.exp(-0.005 * float(apart.square().sum()))
        return total / (len(rows) * len(others))

    expected = 1000 * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))
    assert cmmd(made(a.float()), made(b.float())) == pytest.approx(expected, abs=1e-6, rel=1e-6)
    assert cmmd(made(a.float()), made(a.float())) == pytest.approx(0, abs=1e-9)


def test_cmmd_of_equal_distributions_has_the_bias_that_is_stated() -> None:
    for n, m in ((50, 50), (50, 1500), (1500, 1500)):
        values, others = gaussian(n, 64), gaussian(m, 64, seed=1)
        squared = float(2 - 2 * values.mean(0).dot(others.mean(0)) / 64)
        assert cmmd(made(values), made(others)) == pytest.approx(5 * (1 / n + 1 / m) * squared, rel=0.2)


def test_kid_is_deterministic_and_leaves_the_generator_alone() -> None:
    a, b = made(gaussian(40)), made(gaussian(40, seed=1))
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = kid(a, b, subsets=5, subset_size=10)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert first == kid(a, b, subsets=5, subset_size=10) != kid(a, b, subsets=5, subset_size=10, seed=1)


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    many, few = made(gaussian(20)), made(gaussian(4))
    with pytest.raises(ValueError, match=r"FID of 4 features needs at least 5 images on either side; 4 are generated\."):
        fid(many, few)
    with pytest.raises(ValueError, match="needs at least 5 images on either side; 4 are in the reference"):
        fid(few, many)
    assert fid(many, made(gaussian(5))) > 0
    with pytest.raises(ValueError, match="subset_size of 1000 needs at least 1000 images on either side; 20 are in the ref"):
        kid(many, many)
    with pytest.raises(ValueError, match="Coverage with 5 neighbours needs at least 6 images on either side; 4 are generated"):
        coverage(many, few)
    with pytest.raises(ValueError, match=r"CMMD needs at least 2 images on either side; 0 are generated\. Generate more"):
        cmmd(many, made(torch.zeros(0, 4)))


def test_features_of_two_protocols_are_not_compared() -> None:
    ours = made(gaussian(20))
    for measure in (fid, coverage, kid, cmmd):
        with pytest.raises(ValueError, match="The images' extractor is mine, and the reference's other"):
            measure(made(gaussian(20), extractor="other"), ours)
        with pytest.raises(ValueError, match="The images' preparation is none, and the reference's squashed"):
            measure(made(gaussian(20), preparation="squashed"), ours)


def brute_force(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, ...]:
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    reach_real, reach_generated = (np.sort(distance(x, x), axis=1)[:, k] for x in (real, generated))
    between = distance(real, generated)
    inside = between < reach_real[:, None]
    return (
        inside.any(0).mean(), (between < reach_generated).any(1).mean(), inside.sum(0).mean() / k, inside.any(1).mean()
    )  # fmt: skip


@pytest.mark.parametrize(("n", "m", "k"), [(30, 50, 3), (60, 20, 5), (1100, 40, 2)])
def test_coverage_is_what_brute_force_finds(n: int, m: int, k: int) -> None:
    real, generated = gaussian(n), 0.6 * gaussian(m, seed=1) + 0.4
    found = coverage(made(real), made(generated), neighbours=k)
    expected = brute_force(real.double().numpy(), generated.double().numpy(), k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_what_lies_as_far_as_the_neighbour_is_outside() -> None:
    """As in published code. Every distance to a neighbour is 1, and so is that between the sides."""
    real, generated = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[-2.0], [-1.0], [3.0], [4.0]])
    assert coverage(made(real), made(generated), neighbours=1) == Coverage(0.0, 0.0, 0.0, 0.0)


def test_collapse_is_seen_by_recall_and_coverage_only() -> None:
    real = gaussian(400, 2)
    collapsed = coverage(made(real), made(0.01 * gaussian(400, 2, seed=1)))
    alike = coverage(made(real), made(gaussian(400, 2, seed=2)))
    assert collapsed.precision > 0.9 and collapsed.density > 1 and collapsed.coverage < 0.1 and collapsed.recall < 0.1
    assert min(alike.precision, alike.recall, alike.coverage) > 0.9 and alike.density == pytest.approx(1, abs=0.15)


def test_extraction_does_not_depend_on_order_or_batches(tmp_path: Path) -> None:
    extractor, shown = ModuleFeatures(Means(), "means"), images()
    features, unreadable = extract(shown, extractor, batch_size=2)
    assert features.names == tuple(sorted(shown)) and features.values.shape == (5, 12) and not unreadable
    backwards, _ = extract(dict(reversed(shown.items())), extractor, batch_size=3)
    assert torch.equal(features.values, backwards.values) and features.preparation == "images as they are"
    files: dict[str, Path | Image.Image] = {}
    for name, image in shown.items():
        assert isinstance(image, Image.Image)
        image.save(tmp_path / name)
        files[name] = tmp_path / name
    assert torch.equal(extract(files, extractor)[0].values, features.values)


def test_images_are_prepared_and_broken_ones_named(tmp_path: Path) -> None:
    extractor = ModuleFeatures(Means(), "means")
    (tmp_path / "rubbish.png").write_bytes(b"rubbish")
    shown: dict[str, Path | Image.Image] = {
        **images(3), "torn.png": broken_image(), "rubbish.png": tmp_path / "rubbish.png", "gone.png": tmp_path / "gone.png"
    }  # fmt: skip
    features, unreadable = extract(shown, extractor, side=32)
    assert set(unreadable) == {"torn.png", "rubbish.png", "gone.png"} and all(unreadable.values())
    assert features.names == ("0.png", "1.png", "2.png")
    wide, _ = extract({"wide": Image.new("RGB", (200, 50), "red"), "one": Image.new("L", (7, 7))}, extractor, side=32)
    assert wide.preparation == "bicubic to a shorter side of 32, centre crop"
    assert wide.values[1].tolist() == [255.0] * 4 + [0.0] * 8 and wide.values[0].tolist() == [0.0] * 12
    nothing, _ = extract({}, extractor)
    assert len(nothing) == 0


class Zeros(torch.nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), 12)


def test_reference_is_kept_with_its_protocol(tmp_path: Path) -> None:
    cache, extractor, shown = tmp_path / "reference.safetensors", ModuleFeatures(Means(), "means"), images()
    first = reference_features(cache, shown, extractor)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.safetensors"]
    unlike = ModuleFeatures(Zeros(), "means")
    again = reference_features(cache, shown, unlike)  # nothing is computed again
    assert torch.equal(first.values, again.values) and again.names == first.names and again.extractor == "means"
    with pytest.raises(ValueError, match="another extractor: means, and this run needs others"):
        reference_features(cache, shown, ModuleFeatures(Means(), "others"))
    with pytest.raises(
        ValueError, match=r"another preparation: images as they are, and this run needs bicubic to a shorter side of 32"
    ):
        reference_features(cache, shown, extractor, side=32)
    with pytest.raises(ValueError, match=r"another hash of images.*remove this one"):
        reference_features(cache, images(4), extractor)
    with pytest.raises(ValueError, match="another hash of images"):  # one of them was exported again
        reference_features(cache, {**shown, "0.png": Image.new("RGB", (40, 30))}, extractor)
    cache.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"reference\.safetensors holds no features of images"):
        reference_features(cache, shown, extractor)
    with pytest.raises(ValueError, match=r"1 reference images cannot be read, gone\.png among them"):
        reference_features(tmp_path / "other", {**shown, "gone.png": tmp_path / "gone.png"}, extractor)
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_clip_features_are_raw_embeddings(tmp_path: Path, clip_folder: Path) -> None:
    """Of both libraries' towers; the world's CLIP is one of open_clip's folders."""
    clip = OpenClip(f"local-dir:{clip_folder}", device="cpu")
    shown = {"a": tiny_image(0), "b": tiny_image(1)}
    features, _ = extract(dict(shown), ClipFeatures(clip))
    with torch.no_grad():
        pixels = torch.stack([clip.transform(image) for image in shown.values()])
        torch.testing.assert_close(features.values, clip.model.encode_image(pixels), atol=1e-5, rtol=1e-5)
    assert features.extractor == clip.version
    other = ClipFeatures(TransformersClip(str(tiny_clip(tmp_path / "tiny-clip")), device="cpu"))
    values = extract(dict(shown), other)[0].values
    assert values.shape == (2, 16) and not torch.allclose(values.norm(dim=1), torch.ones(2))
    other.close()
    assert "model" not in other.clip.__dict__


@pytest.mark.processes
def test_ranks_together_have_what_one_process_has(tmp_path: Path) -> None:
    multiprocessing.spawn(features_rank.run, args=(str(tmp_path),), nprocs=2)
    alone = extract(images(7), ModuleFeatures(Means(), "means"))[0]
    assert gather_features(alone) is alone
    for file in ("0-of-rank0", "0-of-rank1", "1-of-rank0", "1-of-rank1"):
        together = Features.load(tmp_path / file)
        assert together.names == alone.names and torch.equal(together.values, alone.values)


def fid_weights() -> dict[str, Tensor]:
    """Weights of FID's Inception drawn from a seed, of a size that keeps every layer's output within bounds."""
    from torchvision.models.inception import Inception3

    rng, state = np.random.default_rng(0), Inception3(1008, False, False, init_weights=False).state_dict()
    for name in sorted(state):
        tensor = state[name]
        if tensor.is_floating_point():
            drawn = rng.standard_normal(tuple(tensor.shape), dtype=np.float32)
            if name.endswith("running_var"):
                drawn = 0.5 + np.abs(drawn)
            elif tensor.ndim > 1:
                drawn *= (2 / tensor[0].numel()) ** 0.5
            else:
                drawn = 0.1 * drawn + name.endswith("bn.weight")
            state[name] = torch.from_numpy(np.asarray(drawn, dtype=np.float32))
    return state


# torch-fidelity 0.4.0, FeatureExtractorInceptionV3 with the weights above on the image below: every 256th feature, and the
# sum of all squares
TORCH_FIDELITY = ([0.0, 0.03002, 0.04383, 0.08824, 0.01475, 0.081, 0.00173, 0.00446], 650.41516)


@pytest.mark.long
def test_inception_is_torch_fidelitys(tmp_path: Path) -> None:
    torch.save(fid_weights(), tmp_path / "weights.pth")
    pixels = np.random.default_rng(7).integers(0, 256, (1, 3, 90, 130), dtype=np.uint8)
    image = Image.fromarray(pixels[0].transpose(1, 2, 0).copy())
    extractor = InceptionFeatures(str(tmp_path / "weights.pth"), "cpu")
    values = extract({"image": image}, extractor)[0].values
    some, squares = TORCH_FIDELITY
    assert values.shape == (1, 2048) and values[0, ::256].tolist() == pytest.approx(some, abs=1e-4)
    assert float(values.double().square().sum()) == pytest.approx(squares, rel=1e-4)
    assert extractor.version.startswith("inception-v3-2015 sha256-")


@pytest.mark.long
def test_weights_of_another_inception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no file .*none"):
        InceptionFeatures(str(tmp_path / "none")).load()
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "imagenet.pth")
    with pytest.raises(ValueError, match=r"imagenet\.pth does not hold the Inception-v3 of FID.*torch-fidelity"):
        fid_inception(tmp_path / "imagenet.pth")

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"fc.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match=r"bomb\.pth cannot be read safely"):
        fid_inception(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_resizing_takes_corners_for_origins() -> None:
    """TensorFlow 1: halving takes every second pixel, doubling puts means between."""
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert torch.equal(resize_like_tensorflow_1(ramp, 4)[0, 0, 0], torch.tensor([0.0, 2, 4, 6]))
    assert torch.equal(resize_like_tensorflow_1(ramp, 16)[0, 0, 0], torch.tensor([*torch.arange(0, 7.5, 0.5), 7]))
