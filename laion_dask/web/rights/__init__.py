"""Opt-outs: what owners say about the use of their content. A module for each source, and the decision.

- agent_groups: Parse files of User-agent groups, the grammar that robots.txt and ai.txt share, for the names that
  concern us.
- ai_txt: Parse Spawning's ai.txt and decide for an image address by its rules.
- c2pa: Decide by a picture's C2PA manifest: its assertions about data mining and training.
- decision: What all opt-out signals share: decisions with their evidence, and the policy that says which signals bind.
- embedded: Decide by the metadata in a picture file: IPTC/PLUS data mining, TDMRep and C2PA.
- headers: Decide by the headers of an image's response: X-Robots-Tag, TDMRep, Content-Usage and a crawler price.
- pages: Find the opt-outs of a web page: in its response headers, its meta elements and its LINK elements.
- path_rules: Match paths against the patterns of robots.txt and similar files, in linear time.
- robots: Parse robots.txt and decide for an address by its rules: RFC 9309, AIPREF, Content Signals, RSL.
- rsl: Parse RSL 1.0 licences (Really Simple Licensing) and decide whether they permit training on an address.
- signals: Parse the values of opt-out headers: robots directives, Content-Usage, and Link headers with RSL licences.
- tdmrep: Parse /.well-known/tdmrep.json (W3C's TDM Reservation Protocol) and decide for an address by its rules.
- xmp: Read opt-outs in the XMP packets of a picture: PLUS data mining, TDM reservation, address of a remote manifest.
"""
