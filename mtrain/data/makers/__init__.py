"""Batch makers: from rows of a token store to padded or packed batches, one file each."""
