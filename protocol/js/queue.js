// Where one stands in the queue for an agent. The same rule as protocol/src/queue.rs: exact for the ticket of a mark,
// between two marks where the ticket lies between theirs.

/** 1 = next; 0 where the marks do not say: it left the queue, or joined it after they were made. */
export function placeOf(ticket, marks) {
  let before = null;
  for (const mark of marks) {
    if (mark.ticket === ticket) return mark.place;
    if (mark.ticket > ticket) {
      if (!before) return 0;
      const places = mark.place - before.place;
      const share = Math.floor(((ticket - before.ticket) * places) / (mark.ticket - before.ticket));
      return before.place + Math.max(0, Math.min(Math.max(share, 1), places - 1));
    }
    before = mark;
  }
  return 0;
}
