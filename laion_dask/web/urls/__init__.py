"""Addresses of images: resolved, normalized, compared, checked, and spread over hosts.

- address_key: Decide which spellings of an address mean the same picture, for removals and for lists of known
  content.
- hostnames: Check host names: whether they are well formed and public, and what their registrable domain is.
- ip_addresses: Decide whether an IP address can belong to a public web server, by IANA's registries.
- resolver: Resolve the image links of a page to absolute addresses with their hosts, or to a reason against them.
- spacing: Order rows so that the rows of every host are spread evenly.
- url_rules: Resolve one image address by the rules of `extract`: an absolute address with its host, or a reason
  against it.
"""
