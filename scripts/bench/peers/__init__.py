"""Other trainers, and how each is told to train the same model on the same pieces.

Each needs an environment of its own, a folder of its name with bin/python, as
scripts/bench/README.md tells.
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
