"""The labelled demo crawl and its small models, made offline, with all hosts under the domain `.example`.

- crawl: The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.
- train: Train the demo's small models: `python -m laion_dask.demo.train COMMAND`.
- training: Train and evaluate the demo's small CLIP, face detector, captioner and translator.
"""
