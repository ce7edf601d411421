-- wrk: POST bodies from a file, one JSON document a line.
-- Arguments: FILE SALT ["Name: value" ...]
-- SLOT in a body becomes a number of as many digits, another one in each request, so that no
-- text ever comes twice, be it in this run or (SALT) in another.
local SLOT = "@@@@@@@@@@@@@@"
local threads = 0

function setup(thread)
  thread:set("thread_id", threads)
  threads = threads + 1
end

function init(args)
  local headers = ""
  for i = 3, #args do headers = headers .. args[i] .. "\r\n" end
  local salt = string.format("%04d%02d", tonumber(args[2]) % 10000, thread_id % 100)
  heads, tails, count, sent = {}, {}, 0, 0
  for line in io.lines(args[1]) do
    local head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n"
      .. "Content-Type: application/json\r\nContent-Length: " .. #line .. "\r\n" .. headers .. "\r\n"
    count = count + 1
    local first, last = string.find(line, SLOT, 1, true)
    if first then
      heads[count] = head .. string.sub(line, 1, first - 1) .. salt
      tails[count] = string.sub(line, last + 1)
    else
      heads[count] = head .. line
    end
  end
end

function request()
  local i = sent % count + 1
  sent = sent + 1
  local tail = tails[i]
  if not tail then return heads[i] end
  return heads[i] .. string.format("%08d", sent) .. tail
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"duration_us":%d,"status":%d,"connect":%d,"read":%d,"write":%d,'
    .. '"timeout":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write,
    errors.timeout, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max))
end
