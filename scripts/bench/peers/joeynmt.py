"""JoeyNMT. It does not batch by length, hence its padding."""

from peers.base import Peer, Task

CONFIG = """\
name: bench
joeynmt_version: 2.3.0
model_dir: <folder>/model
use_cuda: false
fp16: false
random_seed: 1
data:
  train: <folder>/train
  dev: <folder>/train
  dataset_type: plain
  src: &side
    lang: en
    level: word
    max_length: 250
    lowercase: false
    normalize: false
    voc_min_freq: 0
    voc_file: <vocab>
    tokenizer_type: none
  trg: {<<: *side, lang: de}
  special_symbols:
    {unk_token: <unk>, unk_id: 0, pad_token: <pad>, pad_id: 1,
     bos_token: <s>, bos_id: 2, eos_token: </s>, eos_id: 3}
testing: {beam_size: 5, batch_size: 4096, batch_type: token, max_output_length: 100}
training:
  optimizer: adam
  normalization: tokens
  adam_betas: [0.9, 0.98]
  scheduling: warmupinversesquareroot
  learning_rate_warmup: 400
  learning_rate: 0.001
  learning_rate_min: 0.0
  weight_decay: 0.0
  label_smoothing: 0.1
  loss: crossentropy
  clip_grad_norm: 1.0
  batch_size: <batch_tokens>
  batch_type: token
  batch_multiplier: 1
  early_stopping_metric: ppl
  epochs: 1000
  validation_freq: <never>
  logging_freq: 50
  overwrite: true
  shuffle: true
  keep_best_ckpts: 1
model:
  initializer: xavier_uniform
  bias_initializer: zeros
  init_gain: 1.0
  embed_initializer: xavier_uniform
  embed_init_gain: 1.0
  tied_embeddings: true
  tied_softmax: true
  encoder: &stack
    type: transformer
    num_layers: <num_layers>
    num_heads: <num_heads>
    embeddings: {embedding_dim: <d_model>, scale: true, dropout: 0.1}
    hidden_size: <d_model>
    ff_size: <ffn_dim>
    dropout: 0.1
    layer_norm: pre
    activation: relu
  decoder: *stack
"""
MARKS = ("<unk>", "<pad>", "<s>", "</s>")


def _command(task: Task) -> list[str]:
    vocab = task.write("vocab", task.vocabulary(MARKS))
    for language, path in (("en", task.source), ("de", task.target)):
        task.write(f"train.{language}", path.read_text("utf-8"))
    marks = {"unk": "<unk>", "pad": "<pad>", "s": "<s>"}
    config = task.write("c.yaml", task.fill(CONFIG, vocab=vocab, **marks))
    return ["joeynmt", "train", config, "--skip-test"]


PEER = Peer(_command)
