"""What must be true of one stall, whatever the machine did: from counted frames alone.

A receiver with a ring of R entries and a buffer of B bytes has room for R + B // bytes of a frame. While it stood still at
least `waiting_least` frames had to find room there, and never more than `waiting_most` (tests/performance/backlog.h). So it
has lost some if the first is more than there is room for, and none if the second is not. Where the room lies between the
two, which is a few frames wide, either may be.
"""

LEAST_COUNTED = 60  # bytes that a shorter frame counts as in a buffer
NONE, SOME, OPEN = "none", "some", "open"


def buffered(limit_bytes, frame_bytes):
    """Frames that a buffer holds."""
    return limit_bytes // max(frame_bytes, LEAST_COUNTED)


def expected_loss(least, most, room):
    """NONE, SOME, or OPEN where the counts do not say."""
    if least > room:
        return SOME
    return NONE if most <= room else OPEN


def judge(stall, room):
    """(expected loss, [what is wrong]) of a stall that Patchbay had, for a receiver with room for so many frames."""
    expected = expected_loss(stall["waiting_least"], stall["waiting_most"], room)
    wrong = problems_of(stall)
    if expected == NONE and stall["lost"]:
        wrong.append(f"{stall['lost']} frames were lost, and never more than {stall['waiting_most']} waited where "
                     f"{room} have room")
    if expected == SOME and stall["lost"] < stall["waiting_least"] - room:
        wrong.append(f"{stall['lost']} frames were lost, where {stall['waiting_least']} had to wait and {room} have room")
    return expected, wrong


def judge_guest(stall, ring, kept):
    """The same for a guest of which is known only what was sent to it: with nothing waiting before, all that was sent has room
    if the buffer alone holds it; and what came while it stood still has not, if that is more than ring and buffer."""
    expected = expected_loss(stall["offered_in_stall"] - stall["not_taken_in_stall"] - ring, stall["sent"], kept)
    wrong = problems_of(stall)
    if expected == NONE and stall["lost"]:
        wrong.append(f"{stall['lost']} frames were lost of {stall['sent']} that were sent, where {kept} have room in the "
                     "buffer alone")
    if expected == SOME and not stall["lost"]:
        wrong.append(f"nothing was lost, where {stall['offered_in_stall']} came to a guest that stood still with room for "
                     f"{ring + kept}")
    return expected, wrong


def problems_of(stall):
    """What is wrong with a stall whatever was lost: order, and counters that do not equal what the ends saw."""
    wrong = [f"{stall[what]} frames {meaning}" for what, meaning in (
        ("reordered", "came after a later one"), ("repeated", "came twice"), ("strays", "are none of those sent"),
        ("not_taken", "were not taken from their sender")) if stall[what]]
    dropped = {reason: frames for reason, frames in stall["dropped"].items() if frames}
    if dropped != ({"buffer_full": stall["lost"]} if stall["lost"] else {}):
        wrong.append(f"{stall['lost']} frames are missing, and Patchbay says it dropped {dropped or 'none'}")
    if stall["delivered"] != stall["received"]:
        wrong.append(f"{stall['received']} frames came, and Patchbay says it delivered {stall['delivered']}")
    return wrong


def judge_return(flood, dropped, room):
    """[what is wrong] with a guest that came back after it had stood still under three senders' full load. `flood`: counts of
    tests/performance/isolation.h at the end; `dropped`: what Patchbay says it dropped meanwhile."""
    wrong = []
    if flood["steps_back"]:
        wrong.append(f"{flood['steps_back']} frames came out of order or twice")
    lost = flood["sent"] - flood["received"]
    counted = {reason: frames for reason, frames in dropped.items() if frames}
    if counted != ({"buffer_full": lost} if lost else {}):
        wrong.append(f"{lost} frames are missing, and Patchbay says it dropped {counted or 'none'}")
    for before_gap in flood["returns"]:
        if before_gap != room:
            wrong.append(f"{before_gap} frames came first when it went on, where {room} had room")
    return wrong
