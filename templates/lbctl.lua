-- What HAProxy has no option for: new connections wait for the primary, and sessions are closed
-- only on proof. In normal operation no connection runs any of it. Lua 5.3, HAProxy 2.6 or newer.

-- What the last check says of a node that is not the primary, or where nobody listens. A check
-- that had no answer in time says nothing.
local NO = { L7STS = true, L7RSP = true, L4CON = true }

local held = 0
-- Address of each server, by backend and name, that is up by a check of its own. Before 3.1 a
-- server counts as up from the moment in which DNS names it.
local checked = { primary = {}, standbys = {} }
-- Name and address of the one server of the primary that is up, and since when it is the only one.
local primary, primary_address, since = nil, nil, 0
-- Whether there were several before it, rather than none.
local several = false

local function now()
    local t = core.now()
    return t.sec + t.usec / 1000000
end

-- HAProxy's own word for true depends on its version.
local function is_true(sample)
    return sample == true or sample == 1
end

-- ---- the servers

local function is_up(status)
    return string.sub(status, 1, 2) == "UP"
end

-- The servers that are up, those of them that were checked, and those that are not up and have
-- sessions, each with what its last check says.
local function look(backend)
    local up, sure, down = 0, {}, {}
    local known, count = checked[backend], 0
    for name, server in pairs(core.backends[backend].servers) do
        local address = server:get_addr()
        -- A place to wait, or one for a node that DNS does not name.
        if string.sub(name, 1, 5) == "later" or address == "<unknown>" then
            known[name] = nil
        else
            count = count + 1
            local stats = server:get_stats()
            -- A check that is under way has a star in front.
            local said = string.gsub(stats["check_status"] or "", "^%* ", "")
            if is_up(stats["status"]) then
                up = up + 1
                if said == "L7OK" then known[name] = address end
                if known[name] == address then sure[#sure + 1] = name end
            else
                known[name] = nil
                if (tonumber(stats["scur"]) or 0) > 0 then down[#down + 1] = { server, said } end
            end
        end
    end
    return up, sure, down, count
end

local function cut(down, replaced)
    for _, it in ipairs(down) do
        if replaced or NO[it[2]] then it[1]:shut_sess() end
    end
end

local function watch()
    local up, sure, down, count = look("primary")
    local one = up == 1 and #sure == 1
    if not one then
        primary, primary_address = nil, nil
        several = up > 1 or (several and up == 1)
    elseif primary ~= sure[1] then
        primary = sure[1]
        primary_address = string.gsub(checked.primary[primary], ":%d+$", "")
        since = now()
    end
    cut(down, one)
    if core.backends["standbys"] then
        _, sure, down = look("standbys")
        cut(down, #sure > 0)
    end
    return count
end

-- An error ends a task for ever: sessions on a node that is not the primary would stay.
core.register_task(function()
    local said
    while true do
        local ok, count = pcall(watch)
        if not ok and count ~= said then
            said = count
            core.Alert("lbctl: " .. tostring(count))
        end
        core.msleep(50 + 2 * (ok and count or 0))
    end
end)

-- ---- the hold

local function is_settled(txn)
    return primary ~= nil and txn.f:nbsrv("primary") == 1 and is_true(txn.f:srv_is_up("primary/" .. primary))
end

local function has_room(txn, room)
    return room == 0 or txn.f:be_conn("primary") - held < room
end

-- Until there is a primary and room, the time is over, the client is gone, or this process is to
-- end: its checks have stopped then.
local function wait(txn, start, seconds, room, sure, sure_after_several)
    while true do
        -- Many look more rarely: some 10,000 looks a second at most, and they leave spread out.
        core.msleep(50 + held // 10)
        local t = now()
        if t - start > seconds or not txn.req:may_recv() or is_true(txn.f:stopping()) then
            return act.DENY
        elseif is_settled(txn) and t - since >= (several and sure_after_several or sure) and has_room(txn, room) then
            return act.CONTINUE
        end
    end
end

-- For how many milliseconds at most; how many sessions the primary may have, 0: any number; and
-- for how many milliseconds it must have been the only one, where there was none, and where there
-- were several. These two are longer than the time between two checks of a node that is down, or
-- up, so that a second primary shows itself first.
core.register_action("hold", { "tcp-req" }, function(txn, most, room, sure, sure_after_several)
    local start = now()
    local seconds = function(millis) return tonumber(millis) / 1000 end
    held = held + 1
    local ok, verdict =
        pcall(wait, txn, start, seconds(most), tonumber(room), seconds(sure), seconds(sure_after_several))
    held = held - 1
    txn:set_var("txn.held_ms", math.floor((now() - start) * 1000))
    return ok and verdict or act.DENY
end, 4)

-- ---- what others ask

core.register_fetches("held", function() return held end)
core.register_fetches("settled", function(txn) return is_settled(txn) and 1 or 0 end)
core.register_fetches("primary", function() return primary_address end)
core.register_cli({ "show", "lbctl" }, "show lbctl : clients that wait for a primary", function(applet)
    applet:send("held: " .. held .. "\n")
end)
