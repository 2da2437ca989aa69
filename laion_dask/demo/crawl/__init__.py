"""The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.

- answers: Make the response of an image host to each address of the demo crawl: status, headers and body.
- captions: Write the alt text of a scene, "a small red star in the snow", in eight languages or as a code.
- files: Write the demo crawl's files: WATs and WARCs part by part, then the truth, the known hashes and the list of
  WATs.
- labels: Decide how many links of the demo crawl have each label: how the image is made and served, and its expected
  verdict.
- links: Write links like real pages: relative, padded or misspelt addresses, and links that are not images.
- pages: Plan the demo crawl from a seed and a size: pages, links with their truth, and the responses of image hosts.
- pairs: Make the pairs of the demo crawl: scene, caption, address, and the response of the address.
- plan: The data classes of a planned page and of the plan of the whole demo crawl.
- records: Write a planned page as WAT records: the JSON that Common Crawl's extractor (ia-web-commons) writes.
- scenes: Draw a labelled picture from a seed.
- shapes: Outlines of the things that scenes show: polygons in a box of -1 to 1, y downwards.
- sites: Make the hosts of the demo crawl: page hosts, image hosts, and their rights files.
"""
