"""Offers of a blob of 64 pieces, as tests make them."""

from __future__ import annotations

import random

from mirror.swarm.bitfield import Bitfield, mask_of
from mirror.swarm.offers import Offers
from mirror.swarm.params import SwarmParams

COUNT = 64
PARAMS = SwarmParams()
ALL = mask_of(0, COUNT)


def mask(*pieces: int) -> int:
    return Bitfield.holding(COUNT, pieces).mask


def offers(*names: str, params: SwarmParams = PARAMS, seed: int = 3) -> Offers[str]:
    made: Offers[str] = Offers(params, random.Random(seed))
    for name in names:
        made.joined(name)
    return made
