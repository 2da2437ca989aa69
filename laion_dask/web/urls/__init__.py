"""Addresses of images: resolved, normalized, compared, checked, and spread over hosts.

- address_key: Decide which spellings of an address mean the same picture, for removals and for lists of known
  content.
- hostnames: A host name or IP address in; whether it could exist, whether it is public, and which domain somebody
  registered.
- ip_addresses: An IP address in, whether a public web server can be there out: by the registries, not by this
  machine's network.
- resolver: A page in, the addresses of its image links out: absolute, each with its host, or the reason against it.
- spacing: The hosts of rows and a random key for each in, an order of the rows out in which every host is spread
  evenly.
- url_rules: An image address as written, its base and the rules in; one absolute address with its host, or the reason
  against it.
"""
