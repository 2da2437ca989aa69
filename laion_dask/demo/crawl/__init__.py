"""The demo crawl: sites, pages, links, captions and pictures, with the truth about each link.

- answers: What an address of an image host is to answer in; status, headers and the bytes of the body out.
- captions: A scene and a language in, an alt text out: "a small red star in the snow", in eight languages and in
  none.
- files: A part's name in, its WAT or WARC file out; at the end the truth, the list of known hashes and the list of
  WATs.
- labels: A number of links in, how many of each label out: how its image is made and served, and which verdict is
  due.
- links: An address and a text in, links as a page would write them out: relative, padded, misspelt, and junk between
  them.
- pages: A seed and a size in, the plan of the demo crawl out: pages, links with their truth, and what the image hosts
  answer.
- pairs: Labels and pages in, the pairs of the demo crawl out: scene, caption, address, and what that address answers.
- plan: What a page of the demo crawl is, and the plan of all of them.
- records: A planned page in, its WAT records out: the JSON that Common Crawl's extractor (ia-web-commons) writes.
- scenes: A seed in, a labelled picture out.
- shapes: The name of a thing in, its silhouette out: polygons in a box of -1 to 1, y downwards.
- sites: A number of sites in, the hosts of the demo crawl out: page hosts, image hosts, and what their rights files
  say.
"""
