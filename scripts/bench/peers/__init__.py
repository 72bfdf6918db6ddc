"""Peer trainers, each configured to train the same model on the same pieces.

Each needs its own environment, a folder NAME with bin/python: see scripts/bench/README.md.
"""

from peers import eole, fairseq, joeynmt, marian, opennmt, sockeye, transformers
from peers.base import Peer, Task

PEERS: dict[str, Peer] = {
    "eole": eole.PEER,
    "fairseq": fairseq.PEER,
    "joeynmt": joeynmt.PEER,
    "marian": marian.PEER,
    "opennmt": opennmt.PEER,
    "sockeye": sockeye.PEER,
    "transformers": transformers.PEER,
}

__all__ = ["PEERS", "Peer", "Task"]
