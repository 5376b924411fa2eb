-- What HAProxy has no option for: new connections wait for the primary, and sessions are closed
-- only on proof. In normal operation no connection runs any of it. Lua 5.3, HAProxy 2.6 or newer.

-- What the last check says of a node that is not the primary, or where nobody listens. A check
-- that had no answer in time says nothing, nor does one whose answer is not HTTP: that is what a
-- plain request gets from a node whose REST API has TLS since a moment ago.
local NO = { L7STS = true, L7RSP = true, L4CON = true }

-- What is known of each backend that lbctl has written. Of a leader there is one at most; of others
-- there may be several. `checked`: address of each server, by its name, that is up by a check of
-- its own: before 3.1 a server counts as up from the moment in which DNS names it. Of a leader
-- also: `server` and `address`, the one that is up, and `since` when it is the only one;
-- `answers`, what the checks of the others say since then, and `alone`, whether each of them has
-- said no; `several`, whether there were several before it, rather than none; `held`, who waits.
local backends = nil

-- The role is at the end of the name.
local LEADERS = { primary = true, standby_leader = true, leader = true }
local OTHERS = { replica = true, sync = true, async = true, any = true }

-- Clients that wait. With more of them all that is done for each of them is done more rarely.
local MANY = 100

-- By how many seconds a task was woken too late, lately.
local late = 0

local function now()
    local t = core.now()
    return t.sec + t.usec / 1000000
end

-- HAProxy's own word for true depends on its version.
local function is_true(sample)
    return sample == true or sample == 1
end

-- ---- the servers

local function new_backend(name)
    local role = name == "primary" and name or string.match(name, "%-([%a_]+)$")
    if LEADERS[role] then
        return {
            name = name, leader = true, checked = {}, since = 0, answers = {}, alone = false, several = false, held = 0,
        }
    elseif OTHERS[role] or name == "standbys" then
        return { name = name, checked = {}, held = 0 }
    end
end

local function all_backends()
    if not backends then
        backends = {}
        for name, _ in pairs(core.backends) do backends[name] = new_backend(name) end
    end
    return backends
end

local function is_up(status)
    return string.sub(status, 1, 2) == "UP"
end

-- The servers that are up, those of them that were checked, and those that are not up, each with
-- what its last check says, whether another one is under way, and its number of sessions.
local function look(backend)
    local up, sure, down = 0, {}, {}
    local known, count = backend.checked, 0
    for name, server in pairs(core.backends[backend.name].servers) do
        local address = server:get_addr()
        -- A place to wait, or one for a node that DNS does not name.
        if string.sub(name, 1, 5) == "later" or address == "<unknown>" then
            known[name] = nil
        else
            count = count + 1
            local stats = server:get_stats()
            -- A check that is under way has a star in front.
            local said, busy = string.gsub(stats["check_status"] or "", "^%* ", "")
            if said == "L7RSP" and not tonumber(stats["check_code"]) then said = "" end
            if is_up(stats["status"]) then
                up = up + 1
                if said == "L7OK" then known[name] = address end
                if known[name] == address then sure[#sure + 1] = name end
            else
                known[name] = nil
                down[#down + 1] = {
                    name = name, server = server, said = said, busy = busy > 0,
                    took = stats["check_duration"], sessions = tonumber(stats["scur"]) or 0,
                }
            end
        end
    end
    return up, sure, down, count
end

local function cut(down, replaced)
    for _, it in ipairs(down) do
        if it.sessions > 0 and (replaced or NO[it.said]) then it.server:shut_sess() end
    end
end

-- Whether each of the others has said no since the leader is known: a second one would have shown
-- itself. It counts if the check began after that, which is seen of it, or of an idle server whose
-- last check took another time than the one before. Where nobody listens, a check is over too soon
-- to be seen, and Patroni takes longer than from one check to the next to become a leader. A check
-- without an answer leaves it open, and so does one that is not seen: then the time must do.
local function all_deny(answers, others)
    local all = #others > 0
    for _, it in ipairs(others) do
        local known = answers[it.name]
        if known ~= "no" then
            if it.busy then
                if known then known.began = true end
            elseif it.said == "L4CON" or known and (known.began or known.took ~= it.took) and NO[it.said] then
                known = "no"
            else
                known = { took = it.took }
            end
            answers[it.name] = known
            all = all and known == "no"
        end
    end
    return all
end

-- Whether there is one leader, where the configuration asks for it: a weight can be asked without
-- any Lua.
local function tell(it)
    local backend = core.backends[it.name .. ".settled"]
    if not backend then return end
    local weight = it.server and 1 or 0
    local server = backend.servers["settled"]
    if server:get_weight() ~= weight then server:set_weight(tostring(weight)) end
end

local function watch_leader(it)
    local up, sure, down, count = look(it)
    local one = up == 1 and #sure == 1
    if not one then
        it.server, it.address = nil, nil
        it.several = up > 1 or (it.several and up == 1)
    elseif it.server ~= sure[1] then
        it.server = sure[1]
        it.address = string.gsub(it.checked[it.server], ":%d+$", "")
        it.since, it.answers, it.alone = now(), {}, false
    end
    it.alone = it.server ~= nil and (it.alone or all_deny(it.answers, down))
    tell(it)
    cut(down, one)
    it.count = count
    return count
end

local function watch_others(it)
    local _, sure, down, count = look(it)
    cut(down, #sure > 0)
    return count
end

local function watch()
    local count = 0
    for _, it in pairs(all_backends()) do
        count = count + (it.leader and watch_leader or watch_others)(it)
    end
    return count
end

-- Those for which few wait, who are let through the sooner the sooner its checks are seen. And how
-- many servers they have.
local function urgent()
    local found, count = {}, 0
    for _, it in pairs(all_backends()) do
        if it.leader and it.held > 0 and it.held < MANY and not it.alone then
            found[#found + 1] = it
            count = count + (it.count or 0)
        end
    end
    return found, count
end

local function watch_urgent()
    for _, it in ipairs((urgent())) do watch_leader(it) end
    return 0
end

-- An error ends a task for ever: sessions on a node that is not the primary would stay.
core.register_task(function()
    local said
    local function try(what)
        local ok, count = pcall(what)
        if not ok and count ~= said then
            said = count
            core.Alert("lbctl: " .. tostring(count))
        end
        return ok and count or 0
    end
    local due = 0
    while true do
        if now() >= due then
            due = now() + (50 + 2 * try(watch)) / 1000
        else
            try(watch_urgent)
        end
        local _, count = urgent()
        local before = now()
        local pause = math.max(1, math.ceil(1000 * (due - before)))
        if count > 0 then pause = math.min(pause, 5 + 2 * count) end
        core.msleep(pause)
        late = math.max(0.95 * late, now() - before - pause / 1000)
    end
end)

-- ---- the hold

local function is_settled(txn, it)
    return it.server ~= nil and txn.f:nbsrv(it.name) == 1 and is_true(txn.f:srv_is_up(it.name .. "/" .. it.server))
end

local function has_room(txn, it, room)
    return room == 0 or txn.f:be_conn(it.name) - it.held < room
end

local function all_held()
    local sum = 0
    for _, it in pairs(all_backends()) do sum = sum + it.held end
    return sum
end

local forgetful

local function forgets()
    if forgetful == nil then
        local major = tonumber(string.match(core.get_info()["Version"] or "", "^(%d+)"))
        forgetful = not major or major < 3
    end
    return forgetful
end

-- Many look more rarely: some 10,000 looks a second at most, and they leave spread out. So do all
-- where processor time is short: HAProxy 2.6 forgets to wake a client whose pause was over before
-- it had begun, because another thread was in Lua for as long (tcp_inspect_request drops a time
-- that has expired). Such a one is woken at the end of the inspection, and may still be let through.
-- Where few wait, and a leader must have been the only one for so much time that is `left`, they
-- look when that is over; and `soon`, twice as often before, where no version forgets them.
local function pause(left, soon)
    local held = all_held()
    local most = math.min(1000, 100 + held // 10 + 4000 * late)
    if left and held < MANY then
        local least = 50 + 4000 * late
        most = math.max(least, math.min(soon and not forgets() and least or most, 5 + 1000 * left))
    end
    return math.floor(most)
end

-- Until there is a leader and room, the time is over, the client is gone, or this process is to end:
-- its checks have stopped then.
local function wait(txn, it, start, seconds, room, sure, sure_after_several)
    local left
    while true do
        core.msleep(pause(left, not it.several))
        local t = now()
        left = nil
        if not txn.req:may_recv() or is_true(txn.f:stopping()) then
            return act.DENY
        elseif is_settled(txn, it) then
            left = it.since + (it.several and sure_after_several or sure) - t
            if left <= 0 or (it.alone and not it.several) then
                if has_room(txn, it, room) then return act.CONTINUE end
                left = nil
            end
        end
        if t - start > seconds then
            return act.DENY
        end
    end
end

-- For how many milliseconds at most; how many sessions the leader may have, 0: any number; and
-- for how many milliseconds it must have been the only one, where there was none, and where there
-- were several. These two are longer than the time between two checks of a node that is down, or
-- up, so that a second leader shows itself first. The first of them is over early when all others
-- have said that they are none.
core.register_action("hold", { "tcp-req" }, function(txn, most, room, sure, sure_after_several)
    local it = all_backends()[txn.f:be_name()]
    if not it then return act.DENY end
    local start = now()
    local seconds = function(millis) return tonumber(millis) / 1000 end
    it.held = it.held + 1
    local ok, verdict =
        pcall(wait, txn, it, start, seconds(most), tonumber(room), seconds(sure), seconds(sure_after_several))
    it.held = it.held - 1
    txn:set_var("txn.held_ms", math.floor((now() - start) * 1000))
    return ok and verdict or act.DENY
end, 4)

-- ---- a worker that is about to end

-- Of such a one HAProxy counts no server of any backend, while it still serves those who had connected before and say their
-- first word now. Its checks have stopped, too: what they said last counts, of a leader as strictly as before.
core.register_fetches("still_up", function(txn, name)
    local it = all_backends()[name]
    if not it or not is_true(txn.f:stopping()) then return false end
    local up, sure = look(it)
    if it.leader then return up == 1 and #sure == 1 end
    return up > 0
end)

-- ---- what others ask

core.register_fetches("held", all_held)
-- The address of the node that the main port leads to. Nothing is returned where there is none:
-- nil would be a value for HAProxy, and count as found.
core.register_fetches("primary", function()
    local it = all_backends()["primary"]
    if it and it.address then return it.address end
end)
core.register_cli({ "show", "lbctl" }, "show lbctl : clients that wait for a leader", function(applet)
    applet:send("held: " .. all_held() .. "\n")
end)
