-- wrk script: a processor's callback, another event each time, signed before the run.
-- Environment: PANWARD_POSTS, a file with a signature, a tab and a body a line; PANWARD_START, how
-- many of its lines earlier runs have used; PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

local signatures, bodies = {}, {}
local count = tonumber(os.getenv("PANWARD_START"))

function init(args)
  for line in io.lines(os.getenv("PANWARD_POSTS")) do
    local tab = line:find("\t", 1, true)
    signatures[#signatures + 1] = line:sub(1, tab - 1)
    bodies[#bodies + 1] = line:sub(tab + 1)
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json; charset=utf-8"
end

function request()
  local at = count % #bodies + 1
  count = count + 1
  wrk.headers["Stripe-Signature"] = signatures[at]
  return wrk.format(nil, nil, nil, bodies[at])
end
