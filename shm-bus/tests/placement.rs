//! Huge pages and NUMA nodes are wishes: the segment works whatever came of them, and says what did.

#![cfg(not(miri))]

use shm_bus::{BusDirectory, GatewaySegment, Placed, Placement, SegmentOptions};

/// Of each of the two files, two rings of 4 MiB and three pages: as many whole huge pages fit.
const HUGE_BYTES: usize = 2 * (8 << 20);

fn placed(wish: Placement) -> Placed {
    // Memory, as in production: a disk's file system has no huge pages to write to.
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let bus = BusDirectory::open_or_create(place.path().join("bus")).expect("a bus");
    let options = SegmentOptions {
        shards: 2,
        ..SegmentOptions::default()
    };
    let mut segment = GatewaySegment::create_placed(&bus, &options, wish).expect("placed or not");
    let shard = segment.take_shard(1);
    assert!(shard.is_some(), "its rings are there");
    assert_eq!(segment.placed().wish, wish);
    segment.placed().clone()
}

#[test]
fn without_a_wish_nothing_is_asked_of_the_kernel() {
    let placed = placed(Placement::default());
    assert_eq!((placed.huge_bytes, placed.node_bytes), (0, 0));
    assert!(placed.refusals.is_empty());
}

#[test]
fn huge_pages_are_counted_in_the_kernels_own_account() {
    let placed = placed(Placement {
        huge_pages: true,
        numa_node: None,
    });
    println!("{placed}");
    assert!(placed.to_string().contains("KiB on huge pages"));
    if placed.refusals.is_empty() {
        assert_eq!(placed.huge_bytes, HUGE_BYTES);
    } else {
        // No 2 MiB in one piece, or a kernel without them: told, not hidden.
        assert!(placed.to_string().contains("(huge pages: "), "{placed}");
    }
}

#[test]
fn memory_is_asked_for_from_a_node_that_is_there_and_found_on_it() {
    let placed = placed(Placement {
        huge_pages: false,
        numa_node: Some(0),
    });
    println!("{placed}");
    if placed.refusals.is_empty() {
        assert!(placed.bytes > HUGE_BYTES);
        // The node has room on any machine on which tests run; the last page may be a part of one.
        assert!(placed.node_bytes >= placed.bytes, "{placed}");
    } else {
        // A sandbox may forbid the system call.
        assert!(placed.to_string().contains("node 0: "), "{placed}");
    }
}

#[test]
fn a_node_that_is_not_there_is_named_with_those_that_are() {
    for node in [1023, 5000] {
        let placed = placed(Placement {
            huge_pages: false,
            numa_node: Some(node),
        });
        assert_eq!(placed.node_bytes, 0);
        let [sentence] = &placed.refusals[..] else {
            panic!("one sentence for both files: {placed:?}");
        };
        assert!(
            sentence.starts_with(&format!("node {node}: ")),
            "{sentence}"
        );
        assert!(sentence.contains("this machine has "), "{sentence}");
    }
}
