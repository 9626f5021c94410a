-- wrk script: an order of 1 KB as JSON, with no card in it.
-- Environment: PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

function init(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  local before = '{"order":"o-1001","amount":1099,"currency":"eur","created":1700000000,"items":['
    .. '{"sku":"T-12-7","name":"Ticket, row 12, seat 7","count":1,"cents":1099},'
    .. '{"sku":"T-12-8","name":"Ticket, row 12, seat 8","count":1,"cents":1099}],'
    .. '"trace":"3f0c1a52-9d1e-4c7b-8e65-b1a7f2c90d44","remarks":"'
  local remarks = string.rep("Please leave it with the neighbors. ", 40)
  wrk.body = before .. remarks:sub(1, 1024 - #before - 2) .. '"}'
end
