"""OpenNMT-py."""

from peers.base import Peer, Task

CONFIG = """\
save_data: <folder>/data
src_vocab: <vocab>
tgt_vocab: <vocab>
share_vocab: true
data: {train: {path_src: <source>, path_tgt: <target>, transforms: []}}
save_model: <folder>/model
train_steps: <never>
save_checkpoint_steps: <never>
valid_steps: <never>
report_every: 10
world_size: 1
gpu_ranks: []
batch_type: tokens
batch_size: <batch_tokens>
batch_size_multiple: 1
bucket_size: 29000
num_workers: 0
normalization: tokens
optim: adam
adam_beta2: 0.98
learning_rate: 1
warmup_steps: 400
decay_method: noam
max_grad_norm: 1
label_smoothing: 0.1
param_init: 0
param_init_glorot: true
encoder_type: transformer
decoder_type: transformer
position_encoding: true
enc_layers: <num_layers>
dec_layers: <num_layers>
heads: <num_heads>
hidden_size: <d_model>
word_vec_size: <d_model>
transformer_ff: <ffn_dim>
dropout: [0.1]
attention_dropout: [0.0]
share_embeddings: true
share_decoder_embeddings: true
seed: 1
"""


def _command(task: Task) -> list[str]:
    vocab = task.write("vocab", task.vocabulary(line="{piece}\t1\n"))
    return ["onmt.bin.train", "-config", task.write("c.yaml", task.fill(CONFIG, vocab=vocab))]


PEER = Peer(_command)
