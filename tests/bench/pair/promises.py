"""What one trial of lbctl's must have come to, whatever the medians say."""

# Seconds of a gap at most.
GAPS = {"host dead": 1.0, "cable out": 1.0, "frozen": 1.0, "haproxy hangs": 1.0, "haproxy killed": 0.1, "stopped": 0.1}
# The address is another VM's afterwards, or where it was.
MOVES = ("handover", "host dead", "cable out", "frozen", "haproxy killed", "haproxy hangs", "stopped", "sees none")
STAYS = ("taken back", "host boots", "started", "haproxy goes on", "sees one again", "alone", "forged")
# No connect fails and no session is cut.
COSTS_NOTHING = ("handover", "taken back", "host boots", "cable back", "started", "haproxy goes on")
# No session outlives its VM, or is left without an answer.
ENDS = ("host dead", "cable out", "frozen", "drain ends")
# Seconds until the last session knows, of two holders (detection and one more), of the slowest connect after a resume, until
# one VM alone has the address after keepalived was killed, or the other one after it alone sees a primary, and until a VM is
# ready whose own address came late.
TOLD, TWO, SLOWEST, ALONE, SEES_NONE, LATE = 2.0, 1.6, 0.3, 1.0, 3.0, 5.0
TWO_AT_START = 1.0


def wrong(event, told):
    """In words; empty where all is as promised."""
    found = list(told.get("wrong", []))

    def must(true, words, *values):
        if not true:
            found.append(words % values)

    def within(name, seconds):
        value = told[name]
        must(value is not None and value <= seconds, "%s: %s, not within %s s", name, value, seconds)

    if event in GAPS:
        within("gap", GAPS[event])
    if event in MOVES:
        must(told["moved"], "the address has not moved")
    if event in STAYS:
        must(not told["moved"], "the address has moved")
    if event in COSTS_NOTHING:
        must(not told["failed"], "%s of %s connects failed", told["failed"], told.get("of"))
        must(not told["cut"], "%s of %s sessions were cut", told["cut"], told.get("sessions"))
    if event in ENDS:
        must(told["cut"] == told["sessions"], "%s of %s sessions have ended", told["cut"], told["sessions"])
        within("cut_after", TOLD)
    if event in ("cable back", "resumes", "keepalived killed"):
        within("two", TWO)
    if event == "resumes":
        must(not told["failed"], "%s connects failed", told["failed"])
        within("slowest", SLOWEST)
    if event == "keepalived killed":
        within("settled", ALONE)
    if event == "sees none":
        within("settled", SEES_NONE)
    if event == "both start":
        within("two", TWO_AT_START)
    if event == "late":
        within("ready", LATE)
    if event == "two step back":
        must(not told["both"], "both were let")
    if event == "alone":
        must(told["refused"], "it was not refused")
    if event in ("nobody", "busy"):
        must(not told["moves"], "the address has moved %s times", told["moves"])
    must(not told.get("stray"), "asked by ARP, not the holder alone answers")
    return found
