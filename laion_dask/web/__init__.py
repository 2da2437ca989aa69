"""Everything that meets the web: addresses, opt-outs, polite requests, and archives.

- archive: Archives of downloads: record exchanges as WARC files, and answer from WARC files.
- fetch: Send requests politely: rate limits, host rules, the guard against private addresses, redirects and retries.
- rights: Opt-outs: what owners say about the use of their content. A module for each source, and the decision.
- urls: Addresses of images: resolved, normalized, compared, checked, and spread over hosts.
- warc: WARC files and the HTTP messages in them: read record by record, decoded, indexed.
"""
