"""Which earlier replies a template writes as they are, so that their sampled tokens can stand in the prompt."""

import re
from collections.abc import Mapping


def keep_sampled(written: str, with_placeholders: str, replies: Mapping[str, str]) -> str:
    """``written`` with placeholders instead of the replies that the template did not change.

    Args:
        written: what the template writes of the conversation.
        with_placeholders: what it writes of one whose replies are placeholders.
        replies: the reply that each placeholder stands for.

    A template may look into replies, such as to leave out the model's thoughts, and it sees nothing in a placeholder.
    Here both texts are gone through together: a reply is unchanged if it stands between the same markup as its
    placeholder, but for white space at its ends, which templates trim. If the markup differs, nothing is replaced.
    """
    if any(with_placeholders.count(placeholder) != 1 for placeholder in replies):
        return written
    parts = re.split("|".join(map(re.escape, replies)), with_placeholders)
    found = re.findall("|".join(map(re.escape, replies)), with_placeholders)
    if not written.startswith(parts[0]):
        return written
    kept = [parts[0]]
    position = len(parts[0])
    for i, (placeholder, markup) in enumerate(zip(found, parts[1:], strict=True)):
        reply = replies[placeholder]
        last = i + 1 == len(found)
        for form in (reply, reply.rstrip(), reply.lstrip(), reply.strip()):
            end = position + len(form)
            if written.startswith(form + markup, position) and (not last or end + len(markup) == len(written)):
                kept.append(placeholder)
                break
        else:
            end = max(position, len(written) - len(markup)) if last else written.find(markup, position)
            if end < 0 or not markup or not written.startswith(markup, end):
                return written
            kept.append(written[position:end])
        kept.append(markup)
        position = end + len(markup)
    return "".join(kept)
