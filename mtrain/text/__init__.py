"""Text processing: lines, corpora, filters, tokenizer. Never imports torch."""
