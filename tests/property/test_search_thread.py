"""REFERENCES against a plain reading of RFC 5256 §3: sets and recursion, no thought of speed."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.imapd.thread import Row, Thread, references


class Naive:
    def __init__(self, uid, place=0, row=None):
        self.uid, self.row, self.parent, self.children = uid, row, None, []
        self.key = (row.sent, place) if row else None

    def is_below(self, other) -> bool:
        return self is other or (self.parent is not None and self.parent.is_below(other))

    def link(self, child) -> None:
        if not self.is_below(child):
            child.parent = self
            self.children.append(child)

    def cut(self) -> None:
        if self.parent:
            self.parent.children.remove(self)
            self.parent = None

    def order(self):
        return self.key if self.uid else min(child.order() for child in self.children)

    def first(self):
        """Itself, or a dummy's first child."""
        return self if self.uid else min(self.children, key=Naive.order)


def naive_references(rows):
    every = [Naive(row.uid, place, row) for place, row in enumerate(rows)]
    messages, table = list(every), {}
    for message in messages:
        if message.row.message_id:
            table.setdefault(message.row.message_id, message)
    for message in messages:
        line = []
        for number in message.row.references:
            if number not in table:
                table[number] = Naive(0)
                every.append(table[number])
            line.append(table[number])
        for parent, child in pairwise(line):
            if child.parent is None:
                parent.link(child)
        if not (line and message.parent is line[-1]):
            message.cut()
            if line:
                line[-1].link(message)
    root = Naive(-1)
    root.children = [each for each in every if each.parent is None]
    prune(root, is_root=True)
    return step_6(merge(sorted(root.children, key=Naive.order)))


def prune(parent, is_root=False) -> None:
    kept = []
    for child in parent.children:
        prune(child)
        if child.uid or (is_root and len(child.children) > 1):
            kept.append(child)
        else:
            kept += child.children
    parent.children = kept


def merge(roots):
    table = {}
    for root in roots:
        row = root.first().row
        if not row.subject:
            continue
        old = table.get(row.subject)
        is_better = old is None or (
            old.uid and (not root.uid or (old.row.is_reply and not root.row.is_reply))
        )
        if is_better:
            table[row.subject] = root
    result = list(roots)
    for root in roots:
        row = root.first().row
        if not row.subject or table[row.subject] is root:
            continue
        old = table[row.subject]
        result.remove(root)
        if not old.uid and not root.uid:
            old.children += root.children
        elif not old.uid or (root.row.is_reply and not old.row.is_reply):
            old.children.append(root)
        else:
            result.remove(old)
            dummy = Naive(0)
            dummy.children = [old, root]
            table[row.subject] = dummy
            result.append(dummy)
    return result


def step_6(siblings):
    for each in siblings:
        each.children = step_6(each.children)
    return sorted(siblings, key=Naive.order)


def shape(nodes):
    return [(node.uid, shape(node.children)) for node in nodes]


numbers = st.integers(min_value=1, max_value=9)
messages = st.lists(
    st.tuples(
        st.integers(min_value=1, max_value=6),
        st.sampled_from(["", "tea", "milk"]),
        st.booleans(),
        st.integers(min_value=0, max_value=9),
        st.lists(numbers, max_size=4),
    ),
    max_size=9,
)


@settings(max_examples=300, deadline=None)
@given(messages)
def test_references_is_what_the_rfc_says(found) -> None:
    rows = [
        Row(uid, sent, subject, is_reply, message_id, tuple(refs))
        for uid, (sent, subject, is_reply, message_id, refs) in enumerate(found, 1)
    ]
    threads: list[Thread] = references(rows)
    assert shape(threads) == shape(naive_references(rows))
    uids = sorted(uid for uid, _ in flat(shape(threads)) if uid)
    assert uids == [row.uid for row in rows]


def flat(nodes):
    for uid, children in nodes:
        yield uid, children
        yield from flat(children)
