//! What waits to be sent. One arena of items per shard, chained per connection: a connection with nothing to send
//! owns nothing here.
//!
//! The head of a queue is what the kernel reads while a send is under way; it stays where it is until its completion
//! was told, whatever else happens to the connection. Small frames that follow it are joined into one item, so
//! that a turn's frames leave in one send.

use std::rc::Rc;

use crate::driver::{BufferId, Outgoing};

const NONE: u32 = u32::MAX;
/// Frames are joined into one item up to so many bytes.
const JOIN_BYTES_MAX: usize = 64 << 10;
/// A shared frame shorter than this is copied: that costs less than a send of its own.
const SHARE_BYTES_MIN: usize = 2 << 10;
/// Empty vectors kept for the next frames, and the size from which one is not worth keeping.
const SPARES_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 4 << 10;

/// One connection's queue: ends of its chain, and the bytes that it is charged with.
#[derive(Clone, Copy, Debug)]
pub struct OutQueue {
    head: u32,
    tail: u32,
    /// Not yet taken by the kernel.
    pub bytes: u32,
}

impl OutQueue {
    /// Nothing to send.
    pub const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        bytes: 0,
    };

    /// True if there is nothing to send, and no send under way.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// True if something waits behind the head.
    pub fn has_second(&self) -> bool {
        self.head != self.tail
    }
}

enum Bytes {
    Owned(Vec<u8>),
    Shared(Rc<[u8]>),
    Received { id: BufferId, end: u32 },
    Free { next: u32 },
}

struct Item {
    bytes: Bytes,
    /// First byte that was not sent.
    start: u32,
    next: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

/// All queues' items.
pub struct Outbox {
    items: Vec<Item>,
    free: u32,
    spares: Vec<Vec<u8>>,
    /// Bytes of all queues.
    pub bytes: u64,
}

impl Outbox {
    /// Without any item.
    pub fn new() -> Self {
        Self {
            items: Vec::new(),
            free: NONE,
            spares: Vec::new(),
            bytes: 0,
        }
    }

    /// A vector for a frame that is built outside.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    /// Copies the parts, as one run of bytes, to the end of the queue.
    pub fn push_copy(&mut self, queue: &mut OutQueue, sending: bool, parts: [&[u8]; 2]) {
        let length = parts[0].len() + parts[1].len();
        self.charge(queue, length);
        let in_flight = sending && queue.head == queue.tail;
        if queue.tail != NONE
            && !in_flight
            && let Bytes::Owned(tail) = &mut self.items[queue.tail as usize].bytes
            && tail.len() + length <= JOIN_BYTES_MAX
        {
            tail.extend_from_slice(parts[0]);
            tail.extend_from_slice(parts[1]);
            return;
        }
        let mut bytes = self.spare();
        bytes.reserve(length);
        bytes.extend_from_slice(parts[0]);
        bytes.extend_from_slice(parts[1]);
        self.append(queue, Bytes::Owned(bytes), 0);
    }

    /// Queues the vector from `start` on, without a copy.
    pub fn push_owned(&mut self, queue: &mut OutQueue, bytes: Vec<u8>, start: u32) {
        self.charge(queue, bytes.len() - start as usize);
        self.append(queue, Bytes::Owned(bytes), start);
    }

    /// Queues a frame that others hold too.
    pub fn push_shared(&mut self, queue: &mut OutQueue, sending: bool, frame: &Rc<[u8]>) {
        if frame.len() < SHARE_BYTES_MIN {
            self.push_copy(queue, sending, [frame, &[]]);
        } else {
            self.charge(queue, frame.len());
            self.append(queue, Bytes::Shared(Rc::clone(frame)), 0);
        }
    }

    /// Queues a part of a received buffer; the buffer comes back from [`Self::sent`] or [`Self::clear`].
    pub fn push_received(&mut self, queue: &mut OutQueue, id: BufferId, start: u32, end: u32) {
        self.charge(queue, (end - start) as usize);
        self.append(queue, Bytes::Received { id, end }, start);
    }

    /// What the next send reads.
    pub fn head(&self, queue: &OutQueue) -> Option<Outgoing<'_>> {
        if queue.head == NONE {
            return None;
        }
        let item = &self.items[queue.head as usize];
        Some(match &item.bytes {
            Bytes::Owned(bytes) => Outgoing::Memory(&bytes[item.start as usize..]),
            Bytes::Shared(bytes) => Outgoing::Memory(&bytes[item.start as usize..]),
            Bytes::Received { id, end } => Outgoing::Received {
                id: *id,
                start: item.start,
                end: *end,
            },
            Bytes::Free { .. } => unreachable!("invariant: a queue holds no free item"),
        })
    }

    /// The kernel took `count` bytes of the head. A buffer that is done comes back.
    pub fn sent(&mut self, queue: &mut OutQueue, count: u32) -> Option<BufferId> {
        self.discharge(queue, count);
        self.items[queue.head as usize].start += count;
        if self.length(queue.head) > 0 {
            return None;
        }
        self.remove_head(queue)
    }

    /// Drops all that is queued, handing out the buffers. No send may be under way.
    pub fn clear(&mut self, queue: &mut OutQueue, mut give_back: impl FnMut(BufferId)) {
        while queue.head != NONE {
            if let Some(id) = self.remove_head(queue) {
                give_back(id);
            }
        }
        self.discharge(queue, queue.bytes);
    }

    /// Drops what waits behind the head, which is kept while a send reads it. Items hold whole frames.
    pub fn truncate(&mut self, queue: &mut OutQueue, sending: bool, give_back: &mut Vec<BufferId>) {
        if !sending {
            self.clear(queue, |id| give_back.push(id));
            return;
        }
        let head = queue.head;
        let mut rest = OutQueue {
            head: core::mem::replace(&mut self.items[head as usize].next, NONE),
            tail: queue.tail,
            bytes: 0,
        };
        queue.tail = head;
        let kept = self.length(head);
        rest.bytes = queue.bytes - kept;
        queue.bytes = kept;
        self.clear(&mut rest, |id| give_back.push(id));
    }

    /// The head, if it reads a received buffer, becomes memory of its own. No send may be under way.
    pub fn unpin(
        &mut self,
        queue: &OutQueue,
        copy: impl FnOnce(BufferId, u32, u32) -> Vec<u8>,
    ) -> Option<BufferId> {
        let item = self.items.get_mut(queue.head as usize)?;
        let Bytes::Received { id, end } = item.bytes else {
            return None;
        };
        item.bytes = Bytes::Owned(copy(id, item.start, end));
        item.start = 0;
        Some(id)
    }

    fn length(&self, index: u32) -> u32 {
        let item = &self.items[index as usize];
        let end = match &item.bytes {
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Shared(bytes) => bytes.len(),
            Bytes::Received { end, .. } => *end as usize,
            Bytes::Free { .. } => unreachable!("invariant: a queue holds no free item"),
        };
        u32::try_from(end).expect("invariant: bounds keep queues below 4 GiB") - item.start
    }

    fn charge(&mut self, queue: &mut OutQueue, length: usize) {
        let length = u32::try_from(length).expect("invariant: bounds keep queues below 4 GiB");
        queue.bytes += length;
        self.bytes += u64::from(length);
    }

    fn discharge(&mut self, queue: &mut OutQueue, length: u32) {
        queue.bytes -= length;
        self.bytes -= u64::from(length);
    }

    fn append(&mut self, queue: &mut OutQueue, bytes: Bytes, start: u32) {
        let item = Item {
            bytes,
            start,
            next: NONE,
        };
        let index = if self.free == NONE {
            self.items.push(item);
            u32::try_from(self.items.len() - 1).expect("invariant: fewer items than bytes")
        } else {
            let index = self.free;
            let place = &mut self.items[index as usize];
            let Bytes::Free { next } = place.bytes else {
                unreachable!("invariant: the free chain holds free items");
            };
            self.free = next;
            *place = item;
            index
        };
        if queue.tail == NONE {
            queue.head = index;
        } else {
            self.items[queue.tail as usize].next = index;
        }
        queue.tail = index;
    }

    fn remove_head(&mut self, queue: &mut OutQueue) -> Option<BufferId> {
        let index = queue.head;
        let item = &mut self.items[index as usize];
        queue.head = item.next;
        if queue.head == NONE {
            queue.tail = NONE;
        }
        let bytes = core::mem::replace(&mut item.bytes, Bytes::Free { next: self.free });
        self.free = index;
        match bytes {
            Bytes::Received { id, .. } => Some(id),
            Bytes::Owned(mut bytes) => {
                if self.spares.len() < SPARES_MAX && bytes.capacity() <= SPARE_BYTES_MAX {
                    bytes.clear();
                    self.spares.push(bytes);
                }
                None
            }
            Bytes::Shared(_) | Bytes::Free { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, queue: &mut OutQueue, step: u32) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(head) = outbox.head(queue) {
            let Outgoing::Memory(bytes) = head else {
                panic!("only memory was queued")
            };
            let take = bytes.len().min(step as usize);
            all.extend_from_slice(&bytes[..take]);
            outbox.sent(queue, u32::try_from(take).unwrap());
        }
        all
    }

    #[test]
    fn frames_leave_in_order_whatever_the_kernel_takes_at_once() {
        for step in 1..9 {
            let (mut outbox, mut queue) = (Outbox::new(), OutQueue::EMPTY);
            outbox.push_copy(&mut queue, false, [b"ab", b"c"]);
            outbox.push_owned(&mut queue, b"--def".to_vec(), 2);
            outbox.push_shared(&mut queue, false, &Rc::from(&b"gh"[..]));
            outbox.push_shared(&mut queue, false, &vec![b'x'; 4096].into());
            assert_eq!(queue.bytes, 8 + 4096);
            let all = drain(&mut outbox, &mut queue, step);
            assert_eq!(&all[..8], b"abcdefgh");
            assert_eq!(all.len(), 8 + 4096);
            assert_eq!((queue.bytes, outbox.bytes, queue.is_empty()), (0, 0, true));
        }
    }

    #[test]
    fn a_head_that_the_kernel_reads_is_never_grown() {
        let (mut outbox, mut queue) = (Outbox::new(), OutQueue::EMPTY);
        outbox.push_copy(&mut queue, false, [b"a", b""]);
        outbox.push_copy(&mut queue, true, [b"b", b""]);
        outbox.push_copy(&mut queue, true, [b"c", b""]);
        let Some(Outgoing::Memory(head)) = outbox.head(&queue) else {
            panic!("queued")
        };
        assert_eq!(head, b"a");
        outbox.sent(&mut queue, 1);
        let Some(Outgoing::Memory(head)) = outbox.head(&queue) else {
            panic!("queued")
        };
        assert_eq!(head, b"bc", "what waits is joined");
    }

    #[test]
    fn buffers_come_back_once_from_sent_and_from_clear() {
        let (mut outbox, mut queue) = (Outbox::new(), OutQueue::EMPTY);
        outbox.push_received(&mut queue, BufferId(7), 4, 10);
        outbox.push_received(&mut queue, BufferId(8), 0, 5);
        assert_eq!(outbox.sent(&mut queue, 5), None);
        assert_eq!(outbox.sent(&mut queue, 1), Some(BufferId(7)));
        let mut back = Vec::new();
        outbox.clear(&mut queue, |id| back.push(id));
        assert_eq!(back, [BufferId(8)]);
        assert_eq!((queue.bytes, outbox.bytes), (0, 0));
    }
}
