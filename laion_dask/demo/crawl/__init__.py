"""The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.

- answers: Make the answer of an image host to each address of the demo crawl: status, headers and body.
- captions: Write the alt text of a scene, "a small red star in the snow", in eight languages and in none.
- files: Write the demo crawl's files: WATs and WARCs part by part, then the truth, the known hashes and the list of
  WATs.
- labels: Decide how many links of the demo crawl have each label: how the image is made and served, and the due
  verdict.
- links: Write links as pages do: relative, padded or misspelt addresses, and links that are no images among them.
- pages: Plan the demo crawl from a seed and a size: pages, links with their truth, and the answers of image hosts.
- pairs: Make the pairs of the demo crawl: scene, caption, address, and what the address answers.
- plan: What a page of the demo crawl is, and the plan of all of them.
- records: Write a planned page as WAT records: the JSON that Common Crawl's extractor (ia-web-commons) writes.
- scenes: Draw a labelled picture from a seed.
- shapes: Outlines of the things that scenes show: polygons in a box of -1 to 1, y downwards.
- sites: Make the hosts of the demo crawl: page hosts, image hosts, and what their rights files say.
"""
