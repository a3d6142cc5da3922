//! Where one stands in the queue for an agent, by one's ticket and the marks that everybody hears.

/// The place of a ticket (1 = next); `None` where the marks do not say: it left the queue, or joined it after they
/// were made. Exact for the ticket of a mark; between two marks it is where the ticket lies between theirs.
///
/// ```
/// use tidegate_protocol::queue::place_of;
///
/// let marks = [(1, 1_000), (2, 1_010), (10, 1_100)];
/// assert_eq!(place_of(1_010, marks), Some(2));
/// assert_eq!(place_of(1_055, marks), Some(6));
/// assert_eq!(place_of(999, marks), None);
/// ```
#[must_use]
pub fn place_of(ticket: u64, marks: impl IntoIterator<Item = (u32, u64)>) -> Option<u32> {
    let mut before: Option<(u32, u64)> = None;
    for (place, marked) in marks {
        if marked == ticket {
            return Some(place);
        }
        if marked > ticket {
            let (place_before, marked_before) = before?;
            let places = u64::from(place.saturating_sub(place_before));
            let share = u128::from(ticket - marked_before) * u128::from(places)
                / u128::from(marked - marked_before);
            let last = places.saturating_sub(1);
            let beyond = u64::try_from(share).unwrap_or(last).max(1).min(last);
            return Some(place_before + u32::try_from(beyond).unwrap_or(0));
        }
        before = Some((place, marked));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_between_two_marks_is_never_that_of_a_mark() {
        let marks = [(1, 10), (4, 1_000), (8, 1_004)];
        assert_eq!(place_of(11, marks), Some(2));
        assert_eq!(place_of(999, marks), Some(3));
        assert_eq!(place_of(1_001, marks), Some(5));
        assert_eq!(place_of(1_003, marks), Some(7));
    }

    #[test]
    fn who_is_not_in_the_queue_that_was_marked_has_no_place() {
        assert_eq!(place_of(5, []), None);
        assert_eq!(place_of(5, [(1, 6)]), None);
        assert_eq!(place_of(7, [(1, 6)]), None);
    }

    #[test]
    fn marks_from_a_confused_server_give_some_answer() {
        for marks in [[(9, 5), (1, 8)], [(0, 0), (0, u64::MAX)], [(3, 8), (3, 8)]] {
            let _ = place_of(6, marks);
        }
    }
}
