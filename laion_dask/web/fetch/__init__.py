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
- host_limits: Rate limits for hosts and domains: how many requests run at once, and how far apart they start.
- host_rules: Origins in, rules out: what their robots.txt, tdmrep.json, ai.txt and licences say.
- leases: The client of a limit server: it asks for leases, holds them, and gives them up in time; see `limit_server`.
- limit_server: The limit server: it shares the rate limits for hosts between all workers of a run.
- outcome: How a URL ended: keep and the decoded body, or a reason of the closed list; and each try for it.
- replay_address: Where a replay server listens, and the headers by which it tells its client what a host did not
  answer.
- response_head: Read heads of answers as browsers do where aiohttp's parser is stricter: a Content-Length that is
  said twice.
"""
