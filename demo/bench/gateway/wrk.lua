-- Sends the requests of several visitors in turn. The arguments are their cookies.
local requests, number = {}, 0

init = function(cookies)
  for index, cookie in ipairs(cookies) do
    wrk.headers["Cookie"] = cookie
    requests[index] = wrk.format()
  end
end

request = function()
  number = number % #requests + 1
  return requests[number]
end

-- Prints the result of wrk as one line of JSON. Times are in microseconds.
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "failed": %d, "p50": %.1f, "p99": %.1f}',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
