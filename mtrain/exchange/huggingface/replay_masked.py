"""Runs a BERT with `transformers` alone on masked lines, in a process of its own.

    python replay_masked.py FOLDER REQUEST.json ANSWER

The request has `lines`, `ids` (rows, some tokens masked), `places` of the masked tokens,
`candidates` at each, and `has_head`. ANSWER.json gets the ids of the lines; ANSWER.safetensors the
last layer's states of each row, and the log probabilities of the candidates.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file


@torch.inference_mode()
def main() -> None:
    """Answer the request."""
    folder, request_path, answer = sys.argv[1:]
    request = json.loads(Path(request_path).read_text("utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    kind = transformers.AutoModelForMaskedLM if request["has_head"] else transformers.AutoModel
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    tensors = {}
    for row, (ids, places, candidates) in enumerate(
        zip(request["ids"], request["places"], request["candidates"], strict=True)
    ):
        out = model(torch.tensor([ids]), output_hidden_states=True)
        tensors[f"states.{row}"] = out.hidden_states[-1][0].clone()
        if request["has_head"]:
            found = out.logits[0, places].log_softmax(dim=-1)
            wanted = torch.tensor(candidates, dtype=torch.long).reshape(len(places), -1)
            tensors[f"log_probabilities.{row}"] = found.gather(1, wanted)
    save_file(tensors, f"{answer}.safetensors")
    told = {
        "program": f"transformers {transformers.__version__}",
        "ids": tokenizer(request["lines"])["input_ids"],
    }
    Path(f"{answer}.json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()
