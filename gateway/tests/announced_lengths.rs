//! A length is refused on its header: what was only announced takes no memory.
#![expect(unsafe_code, reason = "an allocator that counts, and Driver::send")]

mod fake;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fake::{Fake, options, upgrade_request};
use tidegate_gateway::driver::Socket;
use tidegate_gateway::service::{
    CloseCause, ConnectionId, Message, Service, Sockets, Taken, Time, Told, Upgrade,
};
use tidegate_gateway::shard::Shard;

thread_local! {
    /// The largest single allocation of this thread since it was last set to 0.
    static LARGEST_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which notes the largest request of each thread.
struct Noting;

fn note(bytes: usize) {
    let _thread_ends = LARGEST_BYTES.try_with(|largest| largest.set(largest.get().max(bytes)));
}

// SAFETY: everything is handed to the system's allocator unchanged, whose contract is this trait's; the note touches
// a thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc` above, so from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as for `dealloc`, and the caller's promise about the new size is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

struct Silent;

impl Service for Silent {
    fn on_upgraded(&mut self, _: &mut impl Sockets, _: ConnectionId, _: &Upgrade<'_>) {}
    fn on_message(&mut self, _: &mut impl Sockets, _: ConnectionId, _: Message<'_>) -> Taken {
        Taken::Yes
    }
    fn on_closed(&mut self, _: &mut impl Sockets, _: ConnectionId, _: CloseCause) -> Told {
        Told::Now
    }
}

/// Says these bytes on a fresh connection; the largest allocation that they caused, and the close code that was sent.
fn say(message_bytes_max: u32, pieces: &[&[u8]]) -> (usize, Option<u16>) {
    let mut options = options();
    options.bounds.message_bytes_max = message_bytes_max;
    let now = Time::from_us(1);
    let (mut driver, mut shard) = (Fake::new(), Shard::new(options, Silent, now, 7));
    shard.begin_round(now);
    shard.accepted(&mut driver, Socket(1));
    let key = driver.receiving[&1].0;
    let mut heard = Vec::with_capacity(1 << 10);
    let mut largest = 0;
    let upgrade = upgrade_request("");
    for (number, piece) in std::iter::once(&&*upgrade).chain(pieces).enumerate() {
        let id = driver.free.pop_front().expect("a buffer");
        driver.memory[usize::from(id.0)][..piece.len()].copy_from_slice(piece);
        LARGEST_BYTES.set(0);
        shard.received(&mut driver, key, id, piece.len());
        shard.end_round(&mut driver);
        if number > 0 {
            largest = largest.max(LARGEST_BYTES.get());
        }
        while let Some((key, _, start, length)) = driver.sending.pop() {
            // SAFETY: the contract of Driver::send: the bytes stay until `sent` is told.
            heard = unsafe { std::slice::from_raw_parts(start, length) }.to_vec();
            let length = u32::try_from(length).expect("short");
            shard.sent(&mut driver, key, Ok(length));
        }
    }
    let is_close = heard.first() == Some(&0x88);
    let code = is_close.then(|| u16::from_be_bytes([heard[2], heard[3]]));
    (largest, code)
}

#[test]
fn a_length_that_is_refused_allocates_no_more_than_its_close_frame() {
    let wide = |length: u64| {
        let mut bytes = vec![0x82, 0xFF];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    for (length, code) in [
        (1 << 63, 1002),
        (u64::MAX, 1002),
        (126, 1002),
        ((1 << 63) - 1, 1009),
        (1 << 40, 1009),
        ((16 << 20) + 1, 1009),
    ] {
        let (largest_bytes, closed) = say(16 << 20, &[&wide(length)]);
        assert_eq!(closed, Some(code), "{length}");
        assert!(largest_bytes < 512, "{length}: {largest_bytes} bytes");
    }
}

#[test]
fn a_length_that_is_allowed_takes_memory_only_as_it_comes() {
    let mut header = vec![0x82, 0xFF];
    header.extend((16_u64 << 20).to_be_bytes());
    header.extend([0; 4]);
    let (largest_bytes, closed) = say(16 << 20, &[&header, &[7; 1_000], &[7; 1_000]]);
    assert_eq!(closed, None);
    assert!(largest_bytes <= 4_100, "{largest_bytes} bytes for 2,000");
}

#[test]
fn fragments_hold_at_most_twice_the_limit_of_their_message() {
    const LIMIT: u32 = 20_000;
    let mut first = vec![0x02, 0xFE, 0x0F, 0x00, 0, 0, 0, 0];
    first.extend([7; 0x0F00]);
    let mut more = first.clone();
    more[0] = 0x00;
    let (largest_bytes, closed) = say(LIMIT, &[&first, &more, &more, &more, &more, &more]);
    assert_eq!(closed, Some(1009));
    assert!(largest_bytes <= 2 * LIMIT as usize, "{largest_bytes} bytes");
}
