"""Image embedding -> image."""

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.decoders.flux_adapter import FluxAdapterDecoder
from eclipse_pl.decoders.image_variations import ImageVariationsDecoder
from eclipse_pl.decoders.ip_adapter import IPAdapterDecoder
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.decoders.unclip import StableUnclipDecoder, UnclipDecoder

__all__ = [
    "Decoder",
    "FluxAdapterDecoder",
    "IPAdapterDecoder",
    "ImageVariationsDecoder",
    "KandinskyDecoder",
    "StableUnclipDecoder",
    "UnclipDecoder",
]
