"""The labelled demo crawl and the small models, made offline, all under the domain `.example`.

- crawl: The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.
- training: How the demo's small CLIP and detector were trained, and how well they do.
"""
