"""One polite request: rate limits, host rules, the guard against private addresses, redirects and retries.

- budgets: What a shard may lose to one host, in seconds and in rows, and how long it may take: beyond that nobody
  waits.
- cache: Keys and answers in, the same answers out for a while: a cache with limits of number, weight and age, for
  threads.
- exchange: One request in, one reply out: within a deadline, read no further than allowed; no redirect, no retry, no
  opinion.
- fetcher: URLs in, responses out: asked for politely, checked at every hop, refused where the owner has opted out.
- guard: Addresses in, connections to public machines out: the guard that stands between a stranger's URL and a
  socket.
- host_limits: Hosts in, turns out: how many requests a host and its registered domain get at once, and how far apart
  they are.
- host_rules: Origins in, rules out: what their robots.txt, tdmrep.json, ai.txt and licences say.
- leases: The client's end of a server of turns: leases are asked for, held, and given up in time; see `turns`.
- limit_server: Turns at hosts for all workers of a run: a server in the driver gives them out as leases, the fetchers
  ask it.
- outcome: How a URL ended: keep and the decoded body, or a reason of the closed list; and each try for it.
- replay_address: Where a replay server listens, and the headers by which it tells its client what a host did not
  answer.
- response_head: Read heads of answers as browsers do where aiohttp's parser is stricter: a Content-Length that is
  said twice.
"""
