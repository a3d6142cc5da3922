//! Listening sockets of other shards and processes on the same port.
//!
//! Which socket of a port a newcomer is given to is the kernel's choice, by hash, whoever waits there. If its owner is
//! stopped, at its limit, or dead and not started again yet, the newcomer would wait for as long. So every shard that has
//! room looks at its siblings' sockets now and then, and lets in whoever stands there at two looks in a row: an owner that
//! runs has emptied its queue by then, and if it has too much to do, the help is welcome as well.
//!
//! Nobody is told who is stopped, and no heartbeat is needed: the queue itself says it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

/// Connections taken from siblings at one look: ten thousand a second, and about as many ms of a turn as it has thousands.
const HELPED_PER_LOOK_MAX: usize = 1_024;

/// What became of an attempt to let somebody in.
#[derive(Debug)]
pub enum Helped {
    /// A newcomer.
    In(OwnedFd),
    /// Descriptors or memory ran out.
    OutOfRoom,
}

/// The siblings of one shard.
#[derive(Default)]
pub struct Siblings {
    sockets: Vec<Sibling>,
}

struct Sibling {
    fd: Arc<OwnedFd>,
    /// Somebody stood there at the last look.
    waited: bool,
}

impl Siblings {
    /// Over these sockets, which do not block.
    #[must_use]
    pub fn new(sockets: Vec<Arc<OwnedFd>>) -> Self {
        let sibling = |fd| Sibling { fd, waited: false };
        Self {
            sockets: sockets.into_iter().map(sibling).collect(),
        }
    }

    /// Looks at all of them: one system call, and one for each newcomer. `take` says whether there is room for one more.
    pub fn look(&mut self, mut take: impl FnMut(Helped) -> bool) {
        if self.sockets.is_empty() {
            return;
        }
        let mut left = HELPED_PER_LOOK_MAX;
        let mut has_room = true;
        for index in self.waiting() {
            while has_room && left > 0 {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                match accept_with(&self.sockets[index].fd, flags) {
                    Ok(newcomer) => {
                        left -= 1;
                        has_room = take(Helped::In(newcomer));
                    }
                    Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                        take(Helped::OutOfRoom);
                        return;
                    }
                    // Its peer hung up meanwhile: the next one.
                    Err(Errno::CONNABORTED | Errno::INTR) => left -= 1,
                    // Nobody is left; or the socket is no use, which is its owner's to tell.
                    Err(_) => break,
                }
            }
        }
    }

    /// Where somebody stands, and stood at the last look.
    fn waiting(&mut self) -> Vec<usize> {
        let fds = self.sockets.iter();
        let mut fds: Vec<PollFd<'_>> = fds
            .map(|sibling| PollFd::new(&sibling.fd, PollFlags::IN))
            .collect();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&at_once)).is_err() {
            return Vec::new();
        }
        let waits: Vec<bool> = fds
            .iter()
            .map(|fd| fd.revents().contains(PollFlags::IN))
            .collect();
        let mut waiting = Vec::new();
        for (index, (sibling, waits)) in self.sockets.iter_mut().zip(waits).enumerate() {
            if waits && sibling.waited {
                waiting.push(index);
            }
            sibling.waited = waits;
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::listener::{bind, local_address};

    fn siblings(count: usize) -> (Siblings, Vec<SocketAddr>) {
        let sockets: Vec<Arc<OwnedFd>> = (0..count)
            .map(|_| Arc::new(bind("127.0.0.1:0".parse().unwrap(), 4_096, false).unwrap()))
            .collect();
        let addresses = sockets.iter().map(|fd| local_address(fd).unwrap());
        let addresses = addresses.collect();
        (Siblings::new(sockets), addresses)
    }

    /// Looks once; how many were let in, with room for `room`.
    fn look(siblings: &mut Siblings, room: usize) -> usize {
        let mut inside = 0;
        siblings.look(|helped| {
            assert!(matches!(helped, Helped::In(_)), "there are descriptors");
            inside += 1;
            inside < room
        });
        inside
    }

    #[test]
    fn who_stands_there_at_two_looks_is_let_in_and_who_has_just_come_is_not() {
        let (mut siblings, addresses) = siblings(2);
        assert_eq!(look(&mut siblings, usize::MAX), 0);
        let _first = TcpStream::connect(addresses[1]).unwrap();
        assert_eq!(look(&mut siblings, usize::MAX), 0, "its owner may come");
        let _second = TcpStream::connect(addresses[0]).unwrap();
        assert_eq!(
            look(&mut siblings, usize::MAX),
            1,
            "the first stood there twice"
        );
        assert_eq!(
            look(&mut siblings, usize::MAX),
            1,
            "now the second has, too"
        );
        assert_eq!(look(&mut siblings, usize::MAX), 0);
    }

    #[test]
    fn nobody_is_let_in_for_whom_there_is_no_room() {
        let (mut siblings, addresses) = siblings(1);
        let _crowd: Vec<TcpStream> = (0..5)
            .map(|_| TcpStream::connect(addresses[0]).unwrap())
            .collect();
        assert_eq!(look(&mut siblings, 2), 0);
        assert_eq!(look(&mut siblings, 2), 2);
        assert_eq!(look(&mut siblings, usize::MAX), 3);
    }
}
