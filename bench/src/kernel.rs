//! What the kernel spends and counts for everybody on this machine: differences mean something, absolute figures do not.

use std::io;

/// Memory of the kernel's own, bytes: its objects (sockets, files, their names) and the bytes in TCP's buffers.
///
/// # Errors
/// When /proc can't be read.
pub fn memory_bytes() -> io::Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let sockstat = std::fs::read_to_string("/proc/net/sockstat")?;
    slab_and_buffers(&meminfo, &sockstat)
        .ok_or_else(|| io::Error::other("/proc/meminfo or /proc/net/sockstat lacks its figures"))
}

/// "Slab:  12 kB" and "TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 3" (pages).
fn slab_and_buffers(meminfo: &str, sockstat: &str) -> Option<u64> {
    let slab = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("Slab:"))?;
    let slab_kib: u64 = slab.split_whitespace().next()?.parse().ok()?;
    let tcp = sockstat
        .lines()
        .find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = tcp.split_whitespace().skip_while(|word| *word != "mem");
    let pages: u64 = words.nth(1)?.parse().ok()?;
    Some(slab_kib * 1024 + pages * rustix::param::page_size() as u64)
}

/// Connections that were dropped because a listener's queue was full, since the machine started.
///
/// # Errors
/// When /proc can't be read.
pub fn listen_overflows() -> io::Result<u64> {
    let netstat = std::fs::read_to_string("/proc/net/netstat")?;
    counter(&netstat, "TcpExt:", "ListenOverflows")
        .ok_or_else(|| io::Error::other("/proc/net/netstat lacks ListenOverflows"))
}

/// A line of names, then a line of their values, both with the same prefix.
fn counter(text: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(prefix));
    let index = lines
        .next()?
        .split_whitespace()
        .position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_under_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 3\nIpExt: A\nIpExt: 9\n";
        assert_eq!(counter(text, "TcpExt:", "ListenOverflows"), Some(22));
        assert_eq!(counter(text, "TcpExt:", "Missing"), None);
        let meminfo = "MemTotal: 9 kB\nSlab:              10 kB\n";
        let sockstat =
            "sockets: used 1\nTCP: inuse 5 orphan 0 tw 0 alloc 6 mem 3\nUDP: inuse 0 mem 7\n";
        let expected = 10 * 1024 + 3 * rustix::param::page_size() as u64;
        assert_eq!(slab_and_buffers(meminfo, sockstat), Some(expected));
    }

    #[test]
    fn this_kernel_tells_both() {
        assert!(memory_bytes().unwrap() > 1 << 20);
        listen_overflows().unwrap();
    }
}
