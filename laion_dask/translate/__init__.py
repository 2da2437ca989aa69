"""The stage translate: English texts beside the alt texts of kept pairs.

- convert: Convert a translation model of transformers to CTranslate2's format, with the files of its tokenizer beside
  it.
- engine: Run a translation model with CTranslate2: loaded once for each process, in fixed batches sorted by length.
- languages: Map language codes of a table to the codes that translation models are told.
- models: Find a translation model in CTranslate2's format, fetch it where the hub is named, and identify it.
- part: One shard's kept pairs in, their English texts out: a row for each, with the text or a reason.
- tokens: Make the tokens that a translation model reads, and the text from those that it writes, as its family asks.
"""
