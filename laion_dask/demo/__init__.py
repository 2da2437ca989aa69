"""The labelled demo crawl and its small models, made offline, with all hosts under the domain `.example`.

- crawl: The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.
- training: Train and evaluate the demo's small CLIP and face detector.
"""
