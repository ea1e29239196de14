"""Calotype and its peers, each with its start script, its seeding and the fairest configuration its docs allow."""

from bench.peers.ours import Calotype
from bench.peers.peer import CannotDo, Library, Peer, Seedable
from bench.peers.plain import Plain
from bench.peers.pocketbase import Pocketbase
from bench.peers.wagtail import Wagtail

PEERS: dict[str, Peer] = {"calotype": Calotype(), "pocketbase": Pocketbase(), "plain": Plain(), "wagtail": Wagtail()}
"""Ourselves first: the ratios are ours to each of the others."""

__all__ = ["PEERS", "CannotDo", "Library", "Peer", "Seedable"]
