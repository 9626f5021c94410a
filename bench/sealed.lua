-- wrk script: POST /v1/tokens with a card that was sealed before, another one in every request.
-- Environment: PANWARD_KEY, a key that may tokenize; PANWARD_SEALED, a file with a body a line;
-- PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

local bodies = {}
local count = 0

function init(args)
  for line in io.lines(os.getenv("PANWARD_SEALED")) do
    bodies[#bodies + 1] = line
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("PANWARD_KEY")
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, bodies[(count - 1) % #bodies + 1])
end
