"""The priors that this project compares."""

from eclipse_pl.priors.baselines import LinearPrior, MeanImagePrior, TextAsImagePrior
from eclipse_pl.priors.best_of import BestOfPrior
from eclipse_pl.priors.diffusion import DiffusionPrior
from eclipse_pl.priors.eclipse import EclipsePrior
from eclipse_pl.priors.flow import FlowPrior
from eclipse_pl.priors.lora import LoraPrior
from eclipse_pl.priors.mean_flow import MeanFlowPrior
from eclipse_pl.priors.mlp import MLPPrior
from eclipse_pl.priors.nearest_neighbour import NearestNeighbourPrior
from eclipse_pl.priors.network import PriorNetwork
from eclipse_pl.priors.prior import Prior, gaussian_noise

__all__ = [
    "BestOfPrior",
    "DiffusionPrior",
    "EclipsePrior",
    "FlowPrior",
    "LinearPrior",
    "LoraPrior",
    "MLPPrior",
    "MeanFlowPrior",
    "MeanImagePrior",
    "NearestNeighbourPrior",
    "Prior",
    "PriorNetwork",
    "TextAsImagePrior",
    "gaussian_noise",
]
