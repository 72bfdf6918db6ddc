"""Train a Marian model with the Seq2SeqTrainer of Transformers; inside.py runs this."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

PADDING, START, END, UNKNOWN = range(4)
NO_LABEL = -100


def read_rows(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the token ids of each pair."""
    number = {piece: place for place, piece in enumerate(task["vocabulary"])}
    sides = [
        [
            [*(number.get(piece, UNKNOWN) for piece in line.split()), END]
            for line in Path(task[side]).read_text("utf-8").rstrip("\n").split("\n")
        ]
        for side in ("source", "target")
    ]
    return [
        {"input_ids": source, "labels": target, "length": len(target)}
        for source, target in zip(*sides, strict=True)
    ]


def build_model(task: dict[str, Any]) -> Any:
    """Return the model, with the vocabulary rounded up to a multiple of eight."""
    size = {
        f"{side}_{key}": task[value]
        for side in ("encoder", "decoder")
        for key, value in (
            ("layers", "num_layers"),
            ("attention_heads", "num_heads"),
            ("ffn_dim", "ffn_dim"),
        )
    }
    return MarianMTModel(
        MarianConfig(
            vocab_size=-(-len(task["vocabulary"]) // 8) * 8,
            d_model=task["d_model"],
            max_position_embeddings=256,
            activation_function="relu",
            dropout=0.1,
            attention_dropout=0.0,
            activation_dropout=0.0,
            scale_embedding=True,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
            pad_token_id=PADDING,
            bos_token_id=START,
            eos_token_id=END,
            forced_eos_token_id=None,
            decoder_start_token_id=PADDING,
            **size,
        )
    )


def main() -> None:
    """Train until inside.py stops the process."""
    task = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    set_seed(1)
    rows, model = read_rows(task), build_model(task)

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        def pad(key: str, padding: int) -> torch.Tensor:
            width = max(len(row[key]) for row in batch)
            return torch.tensor([row[key] + [padding] * (width - len(row[key])) for row in batch])

        ids, labels = pad("input_ids", PADDING), pad("labels", NO_LABEL)
        shifted = model.prepare_decoder_input_ids_from_labels(labels=labels)
        return {"input_ids": ids, "attention_mask": (ids != PADDING).long(), "labels": labels,
                "decoder_input_ids": shifted}  # fmt: skip

    mean_length = sum(row["length"] for row in rows) / len(rows)
    options = Seq2SeqTrainingArguments(
        output_dir=task["folder"],
        per_device_train_batch_size=round(task["batch_tokens"] / mean_length),  # no token batches
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        max_steps=1_000_000,
        learning_rate=1e-3,
        warmup_steps=400,
        lr_scheduler_type="inverse_sqrt",
        label_smoothing_factor=0.1,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        disable_tqdm=True,
        seed=1,
    )
    Seq2SeqTrainer(model=model, args=options, train_dataset=rows, data_collator=collate).train()


if __name__ == "__main__":
    main()
