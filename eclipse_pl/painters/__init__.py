"""Prompt -> picture, whatever is in between."""

from eclipse_pl.painters.ceiling_painter import CeilingPainter
from eclipse_pl.painters.painter import Painter
from eclipse_pl.painters.pipeline_painter import PipelinePainter
from eclipse_pl.painters.prior_painter import PriorPainter

__all__ = ["CeilingPainter", "Painter", "PipelinePainter", "PriorPainter"]
