"""Parity with the equations of Bahdanau et al. 2015, written out in NumPy.

Section and equation numbers are those of arXiv:1409.0473v7. One difference is meant: the reset
gate is applied after the recurrent product, as in Cho et al. 2014, arXiv:1406.1078v1, not before
it as in A.1.1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tests.contract.test_models import LENGTHS, a_batch, logits_of, ready_model

Array = npt.NDArray[np.float64]
NAME = "rnn-bahdanau"


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gru(x: Array, state: Array, weights: dict[str, Array], prefix: str) -> Array:
    """One step; the gates lie in the order reset, update, new."""
    w, u = weights[f"{prefix}.kernel.weight_ih_l0"], weights[f"{prefix}.kernel.weight_hh_l0"]
    b, c = weights[f"{prefix}.kernel.bias_ih_l0"], weights[f"{prefix}.kernel.bias_hh_l0"]
    w_r, w_z, w_n = np.split(w @ x + b, 3)
    u_r, u_z, u_n = np.split(u @ state + c, 3)
    reset, update = sigmoid(w_r + u_r), sigmoid(w_z + u_z)
    new = np.tanh(w_n + reset * u_n)
    return (1 - update) * new + update * state


class Reference:
    """One sentence, one equation a line."""

    def __init__(self, parameters: dict[str, Array], width: int) -> None:
        self.p, self.scale = parameters, width**0.5

    def annotations(self, source: list[int]) -> Array:
        """A.2.1: h_j is the forward state and the backward state at word j."""
        words = self.p["source_embedding.weight"][source] * self.scale
        hidden = self.p["encoder.0.forward_layer.kernel.weight_hh_l0"].shape[1]
        ahead, back = np.zeros(hidden), np.zeros(hidden)
        forward, backward = [], []
        for word in words:
            ahead = gru(word, ahead, self.p, "encoder.0.forward_layer")
            forward.append(ahead)
        for word in words[::-1]:
            back = gru(word, back, self.p, "encoder.0.backward_layer")
            backward.append(back)
        return np.concatenate([forward, backward[::-1]], axis=1)

    def align(self, state: Array, h: Array) -> Array:
        """A.1.2: e_ij = v' tanh(W s_(i-1) + U h_j), and their softmax (equation 6)."""
        p = "global_attention."
        keys = h @ self.p[f"{p}memory_projection.weight"].T + self.p[f"{p}memory_projection.bias"]
        hidden = np.tanh(self.p[f"{p}query_projection.weight"] @ state + keys)
        scores = np.exp(hidden @ self.p[f"{p}energy"])
        result: Array = scores / scores.sum()
        return result

    def logits(self, source: list[int], target_in: list[int]) -> tuple[Array, Array]:
        """Return the logits of each target word and the alignment weights."""
        h = self.annotations(source)
        hidden = h.shape[1] // 2
        # A.2.2: s_0 = tanh(W_s backward h_1)
        state = np.tanh(self.p["bridge.0.weight"] @ h[0, hidden:] + self.p["bridge.0.bias"])
        logits, alignments = [], []
        for token in target_in:
            word = self.p["target_embedding.weight"][token] * self.scale
            alpha = self.align(state, h)
            context = alpha @ h  # equation 5
            state = gru(np.concatenate([word, context]), state, self.p, "decoder.0")
            # t~ = U_o s_i + V_o E y_(i-1) + C_o c_i; maxout over its pairs
            joined = np.concatenate([state, context, word])
            pairs = self.p["readout.weight"] @ joined + self.p["readout.bias"]
            logits.append(self.p["target_embedding.weight"] @ pairs.reshape(-1, 2).max(axis=1))
            alignments.append(alpha)
        return np.array(logits), np.array(alignments)


def reference_of(model: Any) -> Reference:
    """Read a model's parameters; with tied embeddings one name stands for three."""
    parameters = {name: value.detach().double().numpy()
                  for name, value in model.state_dict().items()}  # fmt: skip
    return Reference(parameters, model.config.embedding_dim)


def test_logits_and_alignments_are_those_of_the_equations() -> None:
    model, batch = ready_model(NAME), a_batch()
    reference = reference_of(model)
    found = logits_of(model, batch).numpy()
    weights = model.attention(batch)["cross"][:, 0, 0].detach().numpy()
    for row, (source_length, target_length) in enumerate(LENGTHS):
        logits, alignments = reference.logits(
            batch.source[row, :source_length].tolist(),
            batch.target_in[row, :target_length].tolist(),
        )
        np.testing.assert_allclose(found[row, :target_length], logits, atol=2e-5, rtol=1e-4)
        seen = weights[row, :target_length, :source_length]
        np.testing.assert_allclose(seen, alignments, atol=1e-6, rtol=1e-4)


def test_the_step_of_search_is_that_of_the_equations() -> None:
    model, batch = ready_model(NAME), a_batch()
    reference = reference_of(model)
    with torch.inference_mode():
        state = model.encode(batch.source, batch.source_lengths)
        for place in range(3):
            logits, state = model.step(batch.target_in[:, place : place + 1], state)
            source = batch.source[0, : LENGTHS[0][0]].tolist()
            expected, _ = reference.logits(source, batch.target_in[0, : place + 1].tolist())
            np.testing.assert_allclose(logits[0, 0].numpy(), expected[-1], atol=2e-5, rtol=1e-4)
