"""Eole."""

from peers.base import Peer, Task

CONFIG = """\
save_data: <folder>/data
overwrite: true
seed: 1
report_every: 10
src_vocab: <vocab>
tgt_vocab: <vocab>
src_vocab_size: <vocab_size>
tgt_vocab_size: <vocab_size>
share_vocab: true
n_sample: 0
data: {train: {path_src: <source>, path_tgt: <target>}}
transforms: []
training:
  model_path: <folder>/model
  train_steps: <never>
  save_checkpoint_steps: <never>
  valid_steps: <never>
  world_size: 1
  gpu_ranks: []
  batch_type: tokens
  batch_size: <batch_tokens>
  batch_size_multiple: 1
  accum_count: [1]
  accum_steps: [0]
  compute_dtype: fp32
  use_amp: false
  optim: adam
  learning_rate: 1
  warmup_steps: 400
  decay_method: noam
  adam_beta2: 0.98
  bucket_size: 29000
  num_workers: 0
  dropout_steps: [0]
  dropout: [0.1]
  attention_dropout: [0.0]
  max_grad_norm: 1
  label_smoothing: 0.1
  param_init_method: xavier_uniform
  normalization: tokens
model:
  architecture: transformer
  hidden_size: <d_model>
  layers: <num_layers>
  heads: <num_heads>
  transformer_ff: <ffn_dim>
  share_decoder_embeddings: true
  share_embeddings: true
  embeddings: {word_vec_size: <d_model>, position_encoding_type: SinusoidalInterleaved}
"""


def _command(task: Task) -> list[str]:
    vocab = task.write("vocab", task.vocabulary(line="{piece}\t1\n"))
    config = task.fill(CONFIG, vocab=vocab, vocab_size=len(task.pieces) + 1000)
    return ["eole.bin.main", "train", "-c", task.write("c.yaml", config)]


PEER = Peer(_command)
