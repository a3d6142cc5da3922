//! Where the memory of a segment is to lie, and where it does: on huge pages, on a node of a NUMA machine.
//!
//! Both are wishes. The kernel may have no 2 MiB in one piece, or no such node; a bus works all the same. So nothing here is
//! an error, and what came of the wishes can be read afterwards, from the kernel's own account.

use std::fmt;
use std::io;

use crate::mapping::{HUGE_PAGE_BYTES, Mapping};

/// Where memory is to lie. By default: wherever the kernel puts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// On pages of 2 MiB, as far as whole ones fit: fewer misses of the address cache. They are put together when the
    /// segment is made (`MADV_COLLAPSE`, Linux 6.1), whatever the machine's setting for shared memory is. A process for
    /// which transparent huge pages are disabled gets none.
    pub huge_pages: bool,
    /// On this node, if it has room (`MPOL_PREFERRED`): that of the cores of both ends.
    pub numa_node: Option<u32>,
}

/// What became of a [`Placement`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// What was wished for.
    pub wish: Placement,
    /// Memory of the segment, bytes.
    pub bytes: usize,
    /// Of these, what is mapped by huge pages here.
    pub huge_bytes: usize,
    /// Of these, what lies on the node that was wished for.
    pub node_bytes: usize,
    /// What the kernel said where it refused.
    pub refusals: Vec<String>,
}

impl Placed {
    pub(crate) fn nowhere_in_particular(wish: Placement) -> Self {
        Self {
            wish,
            ..Self::default()
        }
    }

    /// Places one more mapping, as far as that goes.
    pub(crate) fn add(&mut self, mapping: &Mapping) {
        self.bytes += mapping.bytes();
        if let Some(node) = self.wish.numa_node {
            let placed = prefer(mapping, node).and_then(|()| bytes_on(mapping, node));
            match placed {
                Ok(bytes) => self.node_bytes += bytes,
                Err(error) => self.refuse(format!(
                    "node {node}: {error}, this machine has {}",
                    nodes()
                )),
            }
        }
        if self.wish.huge_pages {
            if let Err(error) = collapse(mapping) {
                self.refuse(format!("huge pages: {error}"));
            }
            self.huge_bytes += huge_bytes(mapping).unwrap_or(0);
        }
    }

    fn refuse(&mut self, sentence: String) {
        if !self.refusals.contains(&sentence) {
            self.refusals.push(sentence);
        }
    }
}

/// For a line of a log: what was asked for and what it is.
impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB of shared memory", self.bytes >> 10)?;
        if self.wish.huge_pages {
            write!(f, ", {} KiB on huge pages", self.huge_bytes >> 10)?;
        }
        if let Some(node) = self.wish.numa_node {
            write!(f, ", {} KiB on NUMA node {node}", self.node_bytes >> 10)?;
        }
        if !self.refusals.is_empty() {
            write!(f, " ({})", self.refusals.join("; "))?;
        }
        Ok(())
    }
}

/// Puts the whole huge pages of a mapping together.
fn collapse(mapping: &Mapping) -> io::Result<()> {
    let bytes = mapping.bytes() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if bytes == 0 {
        let found = format!("{} KiB are less than one", mapping.bytes() >> 10);
        return Err(io::Error::other(found));
    }
    let start = mapping.start().as_ptr().cast();
    // SAFETY: inside the mapping. The contents stay, and who reads or writes them meanwhile waits for the kernel.
    match unsafe { libc::madvise(start, bytes, libc::MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel's account of this process says of one mapping.
fn huge_bytes(mapping: &Mapping) -> Option<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let first = format!("{:x}-", mapping.start().addr());
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&first));
    lines.next()?;
    let pmd_mapped = |line: &str| {
        let kib = ["ShmemPmdMapped:", "FilePmdMapped:"]
            .iter()
            .find_map(|key| line.strip_prefix(key))?;
        kib.trim().strip_suffix(" kB")?.parse::<usize>().ok()
    };
    // Until the next mapping: its line begins with an address, those of an account with a capital letter.
    let account =
        lines.take_while(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    Some(account.filter_map(pmd_mapped).sum::<usize>() << 10)
}

/// Nodes that can be named; the kernel has no more.
const NODES_MAX: usize = 1024;

/// Where pages of the mapping's file are to come from, for all who map it; those that are there move.
fn prefer(mapping: &Mapping, node: u32) -> io::Result<()> {
    const MPOL_MF_MOVE: libc::c_ulong = 2;
    let mut set = [0_u64; NODES_MAX / 64];
    let word = set.get_mut(node as usize / 64);
    *word.ok_or_else(|| io::Error::from(rustix::io::Errno::INVAL))? |= 1 << (node % 64);
    // SAFETY: the range is the mapping. The set outlives the call and has all the bits that are read, which are one less
    // than is said (mbind(2), "Versions").
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            mapping.start().as_ptr(),
            mapping.bytes(),
            libc::MPOL_PREFERRED,
            set.as_ptr(),
            NODES_MAX as libc::c_ulong + 1,
            MPOL_MF_MOVE,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The shortest base page of any machine: where pages are longer, each is asked about more than once.
const BASE_PAGE_BYTES_MIN: usize = 4096;

/// Bytes of a mapping that lie on a node. All of it is mapped in for that.
fn bytes_on(mapping: &Mapping, node: u32) -> io::Result<usize> {
    let start = mapping.start().as_ptr();
    // SAFETY: the range is the mapping, and its file has memory for all of it.
    unsafe {
        rustix::mm::madvise(
            start.cast(),
            mapping.bytes(),
            rustix::mm::Advice::LinuxPopulateRead,
        )?;
    }
    let pages: Vec<*mut u8> = (0..mapping.bytes().div_ceil(BASE_PAGE_BYTES_MIN))
        .map(|nth| start.wrapping_add(nth * BASE_PAGE_BYTES_MIN))
        .collect();
    let mut places = vec![-1 as libc::c_int; pages.len()];
    // SAFETY: `pages` and `places` have as many elements as is said; without nodes nothing is moved, only told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            pages.len(),
            pages.as_ptr(),
            std::ptr::null::<libc::c_int>(),
            places.as_mut_ptr(),
            0,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let there = places
        .iter()
        .filter(|place| u32::try_from(**place) == Ok(node));
    Ok(there.count() * BASE_PAGE_BYTES_MIN)
}

/// The machine's nodes, for a sentence.
fn nodes() -> String {
    match std::fs::read_to_string("/sys/devices/system/node/online") {
        Ok(online) => format!("node {}", online.trim()),
        Err(_) => "no nodes".to_owned(),
    }
}
