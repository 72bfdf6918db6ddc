"""Translates lines with an exported folder and `transformers` alone, in a process of its own.

    python replay.py FOLDER < request.json > answer.json

The request has `lines`, `targets` (ids to score), `beam_size`, `max_new_tokens`, and for a model
of many languages `source_lang` and `target_prefix`, the piece that begins every translation.
"""

import json
import sys
from typing import Any

import torch
import transformers

AT_ONCE = 16  # lines a batch
# mtrain's search has none of these
PLAIN = {"do_sample": False, "no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "min_length": 0,
         "min_new_tokens": None, "suppress_tokens": None, "num_beam_groups": 1}  # fmt: skip


@torch.inference_mode()
def main() -> None:
    """Answer the request on stdin."""
    folder, request = sys.argv[1], json.load(sys.stdin)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    options: dict[str, Any] = {"max_new_tokens": request["max_new_tokens"], **PLAIN}
    if request["source_lang"] is not None:
        tokenizer.src_lang = request["source_lang"]
    if request["target_prefix"] is not None:
        options["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(request["target_prefix"])
    answer: dict[str, Any] = {
        "program": f"transformers {transformers.__version__}",
        "sources": [],
        "greedy": [],
        "beam": [],
        "log_probabilities": [],
    }
    for start in range(0, len(request["lines"]), AT_ONCE):
        lines, targets = (request[key][start : start + AT_ONCE] for key in ("lines", "targets"))
        encoded = tokenizer(lines, return_tensors="pt", padding=True)
        is_real = encoded["attention_mask"].bool()
        answer["sources"] += [
            ids[real].tolist()[:-1] for ids, real in zip(encoded["input_ids"], is_real, strict=True)
        ]
        for name, num_beams in (("greedy", 1), ("beam", request["beam_size"])):
            generated = model.generate(**encoded, num_beams=num_beams, **options)
            answer[name] += [
                {"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)}
                for ids in (without_marks(row, model.config) for row in generated.tolist())
            ]
        ended = [[*ids, model.config.eos_token_id] for ids in targets]
        answer["log_probabilities"] += score(model, encoded, ended)
    json.dump(answer, sys.stdout)


def without_marks(ids: list[int], config: Any) -> list[int]:
    """Return the ids between the start and the end mark."""
    ids = ids[1:]
    return ids[: ids.index(config.eos_token_id)] if config.eos_token_id in ids else ids


def score(model: Any, encoded: Any, targets: list[list[int]]) -> list[list[float]]:
    """Return the log probability of each token of the targets among those that may be generated."""
    longest = max(map(len, targets))
    labels = torch.tensor([row + [row[-1]] * (longest - len(row)) for row in targets])
    starts = torch.full((len(labels), 1), model.config.decoder_start_token_id)
    logits = model(**encoded, decoder_input_ids=torch.cat([starts, labels[:, :-1]], dim=1)).logits
    forbidden = [ids[0] for ids in model.generation_config.bad_words_ids or () if len(ids) == 1]
    logits[..., forbidden] = -torch.inf
    found = logits.log_softmax(dim=-1).gather(2, labels[:, :, None])[:, :, 0].tolist()
    return [row[: len(target)] for row, target in zip(found, targets, strict=True)]


if __name__ == "__main__":
    main()
