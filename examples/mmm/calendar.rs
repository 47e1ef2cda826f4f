//! What comes back every year: two smooth waves and the holidays that shops feel.

use jiff::{
    ToSpan,
    civil::{Date, date},
};

/// Number of yearly waves: one and two periods a year.
pub(crate) const WAVES: usize = 2;
/// Length of a year.
const YEAR_IN_WEEKS: f64 = 365.25 / 7.0;

/// A holiday with an effect of its own, as waves are too smooth to follow a single week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holiday {
    /// The Monday after Easter.
    EasterMonday,
    /// The second day of Christmas.
    Christmas,
}

/// All holidays, in the order of the model.
pub(crate) const HOLIDAYS: [Holiday; 2] = [Holiday::EasterMonday, Holiday::Christmas];

impl Holiday {
    /// Name in the model.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EasterMonday => "easter_monday",
            Self::Christmas => "christmas",
        }
    }

    /// Whether the holiday is in the week that starts on `first_day`.
    pub(crate) fn falls_into(self, first_day: Date) -> bool {
        let falls_on = |day: Date| first_day <= day && first_day.checked_add(6.days()).is_ok_and(|last| day <= last);
        let day = match self {
            Self::EasterMonday => easter_monday(first_day.year()),
            Self::Christmas => Some(date(first_day.year(), 12, 26)),
        };
        day.is_some_and(falls_on)
    }
}

/// Position in the year's wave of that number, in radians; weeks count from any fixed one.
pub(crate) fn angle(wave: usize, week: usize) -> f64 {
    std::f64::consts::TAU * wave as f64 * week as f64 / YEAR_IN_WEEKS
}

/// Easter Sunday by Gauss's rule in the form that needs no exceptions (Meeus, Jones and Butcher), and a day.
fn easter_monday(year: i16) -> Option<Date> {
    let number = i32::from(year);
    let (moon, century, of_century) = (number % 19, number / 100, number % 100);
    let shift = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * moon + century - century / 4 - shift + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (of_century / 4) - epact - of_century % 4) % 7;
    let late = (moon + 11 * epact + 22 * weekday) / 451;
    let from_march = epact + weekday - 7 * late + 114;
    let (month, day) = (i8::try_from(from_march / 31).ok()?, i8::try_from(from_march % 31 + 1).ok()?);
    Date::new(year, month, day).ok()?.checked_add(1.day()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easter_monday_is_where_printed_calendars_have_it() {
        for (year, month, day) in
            [(1961, 4, 3), (2000, 4, 24), (2008, 3, 24), (2016, 3, 28), (2018, 4, 2), (2038, 4, 26)]
        {
            assert_eq!(easter_monday(year), Some(date(year, month, day)));
        }
    }

    #[test]
    fn a_holiday_belongs_to_the_one_week_around_it() {
        let weeks = [date(2015, 12, 14), date(2015, 12, 21), date(2015, 12, 28), date(2016, 3, 28), date(2016, 4, 4)];
        assert_eq!(weeks.map(|week| Holiday::Christmas.falls_into(week)), [false, true, false, false, false]);
        assert_eq!(weeks.map(|week| Holiday::EasterMonday.falls_into(week)), [false, false, false, true, false]);
    }
}
