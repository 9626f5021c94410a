-- wrk script: a call that is no declared operation, with a body or as GET; no token in it.
-- Environment: PANWARD_KEY; PANWARD_METHOD; PANWARD_BENCH, this folder.
dofile(os.getenv("PANWARD_BENCH") .. "/report.lua")

function init(args)
  wrk.method = os.getenv("PANWARD_METHOD")
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("PANWARD_KEY")
  if wrk.method == "POST" then
    wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
    wrk.body = "email=shopper%40shop.example&name=A+Shopper&phone=%2B49301234567"
      .. "&metadata%5Border_id%5D=bench&address%5Bcity%5D=Berlin&address%5Bcountry%5D=DE"
  end
end
