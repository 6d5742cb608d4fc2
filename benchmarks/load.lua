-- What wrk sends and what it prints. Requests are lines of a file: METHOD, path and body, with tabs between them.
local requests, place = {}, 0

function init(arguments)
  local headers = {["Content-Type"] = "application/json"}
  if arguments[2] then headers["Authorization"] = "Bearer " .. arguments[2] end
  for line in io.lines(arguments[1]) do
    local method, path, body = line:match("^(%S+)\t(%S+)\t(.*)$")
    table.insert(requests, wrk.format(method, path, headers, body ~= "" and body or nil))
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.3f, "p50_ms": %.1f, "p95_ms": %.1f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(95) / 1000,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
