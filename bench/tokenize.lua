-- wrk script: POST /v1/tokens with another card number in every request.
-- Environment: PANWARD_KEY, a key that may tokenize; PANWARD_SEED, four digits that no earlier run
-- had; PANWARD_EXP_YEAR; PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

local seed = tonumber(os.getenv("PANWARD_SEED"))
local rest = '","exp_month":12,"exp_year":' .. os.getenv("PANWARD_EXP_YEAR") .. '}}'
local count = 0

-- Digits with their Luhn check digit: 4, seed (4), counter (10), check.
local function number()
  local digits = string.format("4%04d%010d", seed % 10000, count)
  local sum = 0
  for i = 1, 15 do
    local d = string.byte(digits, i) - 48
    if i % 2 == 1 then
      d = d * 2
      if d > 9 then d = d - 9 end
    end
    sum = sum + d
  end
  return digits .. tostring((10 - sum % 10) % 10)
end

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("PANWARD_KEY")
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, '{"card":{"number":"' .. number() .. rest)
end
