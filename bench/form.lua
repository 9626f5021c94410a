-- wrk script: an old-fashioned checkout form of 1 KB, with another card number in every request.
-- Environment: PANWARD_SEED, four digits that no earlier run had; PANWARD_EXP_YEAR;
-- PANWARD_CODE, the card's code, or nothing; PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

local seed = tonumber(os.getenv("PANWARD_SEED"))
local count = 0
local code = os.getenv("PANWARD_CODE") or ""
local before = "email=shopper%40shop.example&name=A+Shopper&phone=%2B49301234567&city=Berlin"
  .. "&street=Unter+den+Linden+77&postcode=10117&country=DE&order=o-1001&amount=10.99&currency=EUR"
  .. "&card_number="
local after = "&card_month=12&card_year=" .. os.getenv("PANWARD_EXP_YEAR")
  .. (code ~= "" and "&card_code=" .. code or "") .. "&remarks="
local remarks = string.rep("Please+leave+it+with+the+neighbors.+", 40)
  :sub(1, 1024 - #before - 16 - #after)

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
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, before .. number() .. after .. remarks)
end
