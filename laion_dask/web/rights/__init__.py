"""What owners say about the use of their content: the grammars of opt-outs and the decision.

- agent_groups: Files of User-agent groups in, the lines that concern us out: the grammar that robots.txt and ai.txt
  share.
- ai_txt: The answer to GET /ai.txt in, what it says of a picture out: Spawning's file, read when media are
  downloaded.
- c2pa: The bytes of a picture in, what its C2PA manifest says of data mining and training out.
- decision: What a host, a response or a page says about use of its content in, one decision with its evidence out.
- embedded: The bytes of a picture as received in, what its owner wrote into it out: IPTC/PLUS, TDMRep and C2PA.
- headers: Decide by the headers of an image's response: X-Robots-Tag, TDMRep, Content-Usage and a crawler price.
- pages: Find the opt-outs of a web page: in its response headers, its meta elements and its LINK elements.
- path_rules: Path patterns as robots.txt and its relatives write them: compiled once, compared with the path of an
  address.
- robots: The answer to GET /robots.txt in, what it says of an address out: RFC 9309, AIPREF, Content Signals, RSL.
- rsl: A licence document in, what it says of training on an address out: Really Simple Licensing (RSL) 1.0.
- signals: Header values and licence addresses in, what they mean out: the small grammars of reservations.
- tdmrep: The answer to GET /.well-known/tdmrep.json in, what it says of an address out (TDM Reservation Protocol,
  W3C).
- xmp: The bytes of a picture in, what its XMP packets say out: PLUS data mining, TDM reservation, a manifest
  elsewhere.
"""
