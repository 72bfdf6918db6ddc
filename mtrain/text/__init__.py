"""Words before numbers: lines, corpora, filters, tokenizer. Never imports torch."""
