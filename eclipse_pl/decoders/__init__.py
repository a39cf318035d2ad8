"""Image embedding -> image."""

from eclipse_pl.decoders.decoder import Decoder
from eclipse_pl.decoders.ip_adapter import IPAdapterDecoder
from eclipse_pl.decoders.kandinsky import KandinskyDecoder
from eclipse_pl.decoders.unclip import StableUnclipDecoder, UnclipDecoder

__all__ = ["Decoder", "IPAdapterDecoder", "KandinskyDecoder", "StableUnclipDecoder", "UnclipDecoder"]
