"""Prompt -> image."""

from eclipse_pl.text_to_image.diffusers_pipeline import DiffusersPipeline
from eclipse_pl.text_to_image.prior_and_decoder import PriorAndDecoder
from eclipse_pl.text_to_image.text_to_image import TextToImage
from eclipse_pl.text_to_image.upper_bound import UpperBound

__all__ = ["DiffusersPipeline", "PriorAndDecoder", "TextToImage", "UpperBound"]
