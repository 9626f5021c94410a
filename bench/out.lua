-- wrk script: create and confirm a PaymentIntent, with another token and Idempotency-Key each time.
-- Environment: PANWARD_KEY; PANWARD_TOKENS, a file with a token a line; PANWARD_START, how many of
-- its lines earlier runs have used; PANWARD_SEED, for the keys; PANWARD_EXP_YEAR; PANWARD_BENCH.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

local seed = os.getenv("PANWARD_SEED")
local before = "amount=1099&currency=eur&confirm=true&metadata%5Border_id%5D=bench"
  .. "&payment_method_data%5Btype%5D=card&payment_method_data%5Bcard%5D%5Bnumber%5D="
local after = "&payment_method_data%5Bcard%5D%5Bexp_month%5D=12"
  .. "&payment_method_data%5Bcard%5D%5Bexp_year%5D=" .. os.getenv("PANWARD_EXP_YEAR")
local tokens = {}
local count = tonumber(os.getenv("PANWARD_START"))

function init(args)
  for line in io.lines(os.getenv("PANWARD_TOKENS")) do
    tokens[#tokens + 1] = line
  end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("PANWARD_KEY")
end

function request()
  count = count + 1
  wrk.headers["Idempotency-Key"] = "bench-" .. seed .. "-" .. count
  return wrk.format(nil, nil, nil, before .. tokens[(count - 1) % #tokens + 1] .. after)
end
