"""Send requests politely: rate limits, host rules, the guard against private addresses, redirects and retries.

- budgets: Budgets: how many seconds and rows a shard may lose to one host, and how long a shard may take.
- cache: A cache for the threads of a process, limited in size and age: cachetools' TTLCache behind a lock.
- exchange: Send one GET request, within a deadline and a size limit; it follows no redirects and retries nothing.
- fetcher: Fetch images politely: within the rate limits, with every redirect checked, and never against an opt-out.
- guard: Let no request reach a private address: check URLs, resolved names and sockets (protection against SSRF).
- host_limits: Rate limits for hosts and domains: how many requests run at once, and how far apart they start.
- host_rules: Hold the rules of each origin: its robots.txt, tdmrep.json, ai.txt and the licences that they name.
- leases: The client of a limit server: it asks for leases, holds them, and gives them up in time; see `limit_server`.
- limit_server: The limit server: it shares the rate limits for hosts between all workers of a run.
- outcome: The outcome of a URL: keep and the decoded body, or a reason of the closed list; and each attempt at it.
- replay_address: The address of a replay server, and the headers by which it marks what hosts did not answer.
- response_head: Accept a repeated Content-Length as browsers do, which aiohttp's parser refuses.
- retry_after: Read the Retry-After header of an answer.
"""
