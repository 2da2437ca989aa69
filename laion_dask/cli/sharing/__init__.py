"""Commands that describe a version for others, and publish it.

- publish: `laion-dask publish`: prepare a version for the Hugging Face hub or Zenodo, and upload it to the hub.
- versions: Write what `laion-dask export` gives of a whole version: RO-Crate, summary of training content.
"""
