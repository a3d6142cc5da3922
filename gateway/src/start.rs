//! What can keep a gateway from starting: one sentence each, that says what was found and what to type.

use std::io;
use std::net::SocketAddr;

/// Why the gateway did not start (or could not go on).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A kernel before 6.1.
    #[error(
        "this kernel is {found}, and Tidegate needs Linux 6.1 or newer for io_uring's multishot receives: \
         start it on a newer kernel"
    )]
    Kernel {
        /// Its release.
        found: String,
    },
    /// Switched off by sysctl.
    #[error(
        "io_uring is switched off on this machine (kernel.io_uring_disabled={found}): \
         type `sudo sysctl kernel.io_uring_disabled=0`"
    )]
    RingDisabled {
        /// The setting's value.
        found: String,
    },
    /// Refused: most often by a container's seccomp profile.
    #[error(
        "io_uring is refused by the seccomp profile of this container or sandbox: \
         in Docker add `--security-opt seccomp=scripts/seccomp.json` (or `seccomp=unconfined`) to `docker run`"
    )]
    RingRefused,
    /// Not enough lockable memory.
    #[error(
        "the limit of locked memory is {limit_kib} KiB and io_uring needs 512 KiB per shard: \
         type `ulimit -l unlimited` (in Docker: `--ulimit memlock=-1`)"
    )]
    MemoryLock {
        /// The limit found, KiB.
        limit_kib: u64,
    },
    /// Any other error of io_uring.
    #[error(
        "io_uring could not be set up ({detail}): look at `dmesg`, and check that the kernel is 6.1 or newer"
    )]
    Ring {
        /// What the kernel said.
        detail: String,
    },
    /// The port is taken.
    #[error(
        "{address} is in use by another process: stop it (`ss -ltnp 'sport = :{port}'` names it) or choose another address with `--listen`"
    )]
    InUse {
        /// Where.
        address: SocketAddr,
        /// Its port.
        port: u16,
    },
    /// Any other error of bind or listen.
    #[error(
        "{address} can't be listened on ({detail}): choose an address of this machine with `--listen`"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        detail: String,
    },
    /// Too few descriptors.
    #[error(
        "the limit of open files leaves no room for connections ({detail}): type `ulimit -n 65536` first"
    )]
    Descriptors {
        /// What was found.
        detail: String,
    },
    /// A setting that makes no sense.
    #[error("{key} = {found}: {expected}")]
    Setting {
        /// The key of the configuration.
        key: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The service above could not be set up.
    #[error("{0}")]
    Service(String),
    /// A shard died.
    #[error("shard {shard} stopped: {detail}")]
    Shard {
        /// Which.
        shard: u16,
        /// Why.
        detail: String,
    },
}

impl StartError {
    pub(crate) fn bind(address: SocketAddr, error: &io::Error) -> Self {
        if error.raw_os_error() == Some(libc::EADDRINUSE) {
            Self::InUse {
                address,
                port: address.port(),
            }
        } else {
            Self::Bind {
                address,
                detail: error.to_string(),
            }
        }
    }

    /// Makes a sentence of what setting up a ring said.
    pub(crate) fn ring(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match io_uring_disabled() {
                Some(found) if found != "0" => Self::RingDisabled { found },
                _ => Self::RingRefused,
            },
            Some(libc::ENOSYS) => Self::RingRefused,
            Some(libc::ENOMEM) => Self::MemoryLock {
                limit_kib: memory_lock_kib(),
            },
            _ => Self::Ring {
                detail: error.to_string(),
            },
        }
    }
}

fn io_uring_disabled() -> Option<String> {
    let found = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    Some(found.trim().to_owned())
}

fn memory_lock_kib() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    limit.current.map_or(u64::MAX, |bytes| bytes >> 10)
}

/// Descriptors that are not for connections: listeners, rings, doorbells, logs, the admin listener's.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Fewer connections than this make no gateway.
const CONNECTIONS_MIN: u64 = 64;

/// Checks the kernel, sets up and drops a ring as the shards will, and raises the limit of open files as far as it
/// goes. Returns how many connections it leaves room for beside `inherited` listeners.
///
/// # Errors
/// The first thing that is missing.
pub fn probe(inherited: usize) -> Result<u32, StartError> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    if kernel_version(&release).is_some_and(|version| version < (6, 1)) {
        return Err(StartError::Kernel { found: release });
    }
    // glommio refuses to start below this.
    if memory_lock_kib() < 512 {
        return Err(StartError::MemoryLock {
            limit_kib: memory_lock_kib(),
        });
    }
    crate::driver::uring::UringDriver::probe().map_err(|error| StartError::ring(&error))?;
    raise_descriptor_limit(DESCRIPTORS_RESERVED + inherited as u64)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn raise_descriptor_limit(reserved: u64) -> Result<u32, StartError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        },
    );
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = limit.saturating_sub(reserved);
    if room < CONNECTIONS_MIN {
        return Err(StartError::Descriptors {
            detail: format!("{limit}, of which {reserved} are not for connections"),
        });
    }
    Ok(u32::try_from(room).unwrap_or(u32::MAX))
}

/// Lets the table of descriptors grow to its final size now. A process with several threads waits for each doubling until
/// every core has passed a quiet state (`synchronize_rcu` in the kernel's `expand_fdtable`): tens of milliseconds, seven
/// times over, in the middle of a rush. Eight bytes of the kernel's memory for each descriptor.
///
/// Where the kernel refuses, it grows later, as it always did.
pub(crate) fn grow_descriptor_table(connections: u32) {
    use rustix::event::{EventfdFlags, eventfd};
    let Ok(any) = eventfd(0, EventfdFlags::CLOEXEC) else {
        return;
    };
    // Not above the limit: `probe` left the reserved ones out of it.
    let highest = u64::from(connections) + DESCRIPTORS_RESERVED - 1;
    let highest = std::os::fd::RawFd::try_from(highest).unwrap_or(std::os::fd::RawFd::MAX);
    drop(rustix::io::fcntl_dupfd_cloexec(&any, highest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_shapes_are_compared_by_their_first_two_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(kernel_version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(kernel_version("6.1+"), Some((6, 1)));
        assert_eq!(kernel_version("x"), None);
        assert!(kernel_version("6.2.0") > kernel_version("6.1.99"));
    }

    #[test]
    fn each_refusal_of_a_ring_says_what_to_type() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EINVAL] {
            let sentence = StartError::ring(&io::Error::from_raw_os_error(errno)).to_string();
            assert!(sentence.contains('`'), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn a_port_in_use_names_the_port_and_the_way_out() {
        let address = "127.0.0.1:8601".parse().unwrap();
        let error = StartError::bind(address, &io::Error::from_raw_os_error(libc::EADDRINUSE));
        assert!(error.to_string().contains("ss -ltnp 'sport = :8601'"));
    }
}
