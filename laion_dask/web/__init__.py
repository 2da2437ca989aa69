"""Everything that meets the web: addresses, opt-outs, polite requests, and archives that stand in for it.

- archive: Downloads kept as WARC files, and downloads answered out of WARC files.
- fetch: One polite request: rate limits, host rules, the guard against private addresses, redirects and retries.
- rights: What owners say about the use of their content: the grammars of opt-outs and the decision.
- urls: Addresses of images: resolved, normalized, compared, checked, and spread over hosts.
- warc: WARC files and the HTTP messages in them: read record by record, decoded, indexed.
"""
