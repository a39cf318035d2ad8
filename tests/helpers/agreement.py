"""Whether a caption describes a scene, and nothing else."""

from __future__ import annotations

from eclipse_pl.world.captions import OPPOSITE, Description
from eclipse_pl.world.scenes import Scene


def agrees(caption: Description, scene: Scene) -> bool:
    """Whether the scene has exactly these objects, in this relation."""
    kinds = scene.kinds
    described = {(p.colour, p.shape, p.texture): p for p in caption.phrases}
    if described.keys() != kinds.keys() or len(described) != len(caption.phrases):
        return False
    for key, phrase in described.items():
        if len(kinds[key]) != phrase.count or phrase.size not in (None, kinds[key][0].size):
            return False
    if caption.relation is None:
        return True
    sides = [(p.colour, p.shape) for p in caption.phrases[:2]]
    order = [(thing.colour, thing.shape) for thing in scene.objects[:2]]
    return caption.relation == (scene.relation if sides == order else OPPOSITE.get(scene.relation or "")) and (
        sides in (order, order[::-1])
    )
