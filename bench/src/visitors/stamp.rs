//! The moment at which a text was to be said, at its beginning, so that whoever reads it knows how long it was under way:
//! in another process, too, as all processes of a machine share the monotonic clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes that a stamp takes at most.
pub const STAMP_BYTES_MAX: usize = 24;

/// Of whom a text tells how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Those who chatted before the rush came.
    Open,
    /// Those who came with it.
    New,
    /// Those whose own line is bad: slow readers, and whose connection was cut. How long theirs takes says nothing of the
    /// server.
    Disturbed,
}

impl Group {
    const fn mark(self) -> char {
        match self {
            Self::Open => '=',
            Self::New => '+',
            Self::Disturbed => '~',
        }
    }
}

/// µs of the monotonic clock.
#[must_use]
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or(0)
}

/// µs since 1970. The backend's time is the wall clock's of its start, counted on monotonically: what it tells is compared
/// with this, and both agree as long as nobody sets the clock meanwhile.
#[must_use]
pub fn wall_us() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000).unwrap_or(0)
}

/// Writes a stamped text in place of what was there.
pub fn write(text: &mut String, group: Group, due_us: u64, words: &str) {
    text.clear();
    text.push(group.mark());
    text.push_str(&due_us.to_string());
    text.push(' ');
    text.push_str(words);
}

/// What was said so soon after a kill -9 waits for the next life of what was killed: that is measured apart.
pub const KILL_US: u64 = 5_000_000;

/// Whether a text that came just now after so long was said within [`KILL_US`] of that kill (0: there was none).
#[must_use]
pub fn is_through_kill(took: Duration, killed_us: u64) -> bool {
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let since_us = now_us().saturating_sub(took_us);
    // What was under way when it was killed suffered from it, too.
    killed_us != 0 && now_us() >= killed_us && since_us < killed_us + KILL_US
}

/// Whose text it is, and how long it was under way; `None`: it has no stamp.
#[must_use]
pub fn read(text: &str, now_us: u64) -> Option<(Group, Duration)> {
    let (stamp, _) = text.split_once(' ')?;
    let groups = [Group::Open, Group::New, Group::Disturbed];
    let mark = stamp.chars().next()?;
    let group = groups.into_iter().find(|group| group.mark() == mark)?;
    let due_us: u64 = stamp[1..].parse().ok()?;
    Some((group, Duration::from_micros(now_us.saturating_sub(due_us))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_says_whose_text_it_is_and_how_long_it_took() {
        let mut text = "before".to_owned();
        write(&mut text, Group::New, 1_000, "茶到了吗？");
        assert!(text.len() <= "茶到了吗？".len() + STAMP_BYTES_MAX);
        let took = Duration::from_micros(250);
        assert_eq!(read(&text, 1_250), Some((Group::New, took)));
        write(&mut text, Group::Open, 7, "");
        assert_eq!(read(&text, 7), Some((Group::Open, Duration::ZERO)));
        assert_eq!(read("茶到了吗？ 谢谢", 7), None);
        assert_eq!(read("+seven 茶", 7), None);
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = now_us();
        assert!(before > 0 && now_us() >= before);
    }
}
