//! Moments as people and spreadsheets write them (RFC 3339, UTC), without a calendar library: the proleptic
//! Gregorian calendar is forty lines of arithmetic.

/// µs of a day.
const DAY_US: u64 = 86_400_000_000;

/// Year, month, day of a number of days since 1970-01-01 (Howard Hinnant's `civil_from_days`).
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// Days since 1970-01-01; the year is 1970 or later.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `2026-11-21T12:34:56.789Z`; 0 (not yet) is empty.
pub fn rfc3339(at_us: u64) -> String {
    if at_us == 0 {
        return String::new();
    }
    let (year, month, day) = civil(at_us / DAY_US);
    let ms = at_us % DAY_US / 1_000;
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1_000
    )
}

/// A moment in µs: `2026-11-21`, `2026-11-21T12:34:56Z` (fractions are read and ignored) or Unix seconds.
pub fn parse(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1_000_000);
    }
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-')?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    if !in_range || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let found = days(year, month, day);
    // 31 February becomes a day in March: not what was asked for.
    if civil(found) != (year, month, day) {
        return None;
    }
    Some(found * DAY_US + (hour * 3_600 + minute * 60 + second) * 1_000_000)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut next = || {
        parts
            .next()
            .filter(|part| !part.is_empty() && part.len() <= 4)?
            .parse()
            .ok()
    };
    let found = [next()?, next()?, next()?];
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_back() {
        for (text, us) in [
            ("1970-01-01T00:00:00.001Z", 1_000),
            ("2000-02-29T23:59:59.000Z", 951_868_799_000_000),
            ("2026-11-21T12:34:56.000Z", 1_795_264_496_000_000),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000_000),
        ] {
            assert_eq!(rfc3339(us), text);
            assert_eq!(parse(text), Some(us / 1_000_000 * 1_000_000), "{text}");
        }
        assert_eq!(parse("2026-11-21"), Some(1_795_219_200_000_000));
        assert_eq!(parse("1795264496"), Some(1_795_264_496_000_000));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "x",
            "2026-13-01",
            "2026-02-30",
            "2026-11-21T25:00:00Z",
            "2026-11-21T12:00:00",
            "1969-01-01",
            "2026-11",
            "99999999999999999999",
        ] {
            assert_eq!(parse(bad).filter(|_| !bad.is_empty()), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_goes_round() {
        for day in 0..146_097 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}
