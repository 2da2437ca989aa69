"""A seed in, a labelled crawl out: pages, pictures and captions, made offline, all under the domain `.example`."""
