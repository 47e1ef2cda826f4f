//! The weekly dataset: its rows, its channels, and how bad input is refused.

use std::collections::BTreeSet;

use jiff::{ToSpan, civil::Date};
use serde::{Deserialize, Deserializer, de::Error as _};

/// What the file says instead of leaving a cell empty.
const NO_EVENT: &str = "na";

/// One row of the dataset.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Week {
    /// First day of the week.
    #[serde(rename = "DATE", deserialize_with = "date")]
    pub(crate) date: Date,
    /// Revenue of the week, above zero.
    pub(crate) revenue: f64,
    #[serde(rename = "tv_S")]
    tv: f64,
    #[serde(rename = "ooh_S")]
    ooh: f64,
    #[serde(rename = "print_S")]
    print: f64,
    #[serde(rename = "facebook_S")]
    facebook: f64,
    #[serde(rename = "search_S")]
    search: f64,
    newsletter: f64,
    /// Sales of the competitors.
    #[serde(rename = "competitor_sales_B")]
    pub(crate) competitor_sales: f64,
    /// Name of the event that fell into the week.
    #[serde(rename = "events", deserialize_with = "event")]
    pub(crate) event: Option<String>,
}

/// Whether money buys a channel's activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The activity is money spent.
    Paid,
    /// The activity is a count that costs nothing per unit.
    Organic,
}

/// A marketing channel of the dataset.
pub(crate) struct Channel {
    /// Name in results.
    pub(crate) name: &'static str,
    /// Paid or organic.
    pub(crate) kind: Kind,
    /// Range that the search draws the weekly carry-over from: brand media are remembered for weeks, clicks are not.
    pub(crate) decay: (f64, f64),
    /// Activity of a week.
    pub(crate) activity: fn(&Week) -> f64,
}

/// All channels, in the order of every result.
pub(crate) const CHANNELS: [Channel; 6] = [
    Channel { name: "tv", kind: Kind::Paid, decay: (0.3, 0.8), activity: |week| week.tv },
    Channel { name: "ooh", kind: Kind::Paid, decay: (0.1, 0.4), activity: |week| week.ooh },
    Channel { name: "print", kind: Kind::Paid, decay: (0.1, 0.4), activity: |week| week.print },
    Channel { name: "facebook", kind: Kind::Paid, decay: (0.0, 0.3), activity: |week| week.facebook },
    Channel { name: "search", kind: Kind::Paid, decay: (0.0, 0.3), activity: |week| week.search },
    Channel { name: "newsletter", kind: Kind::Organic, decay: (0.1, 0.4), activity: |week| week.newsletter },
];

/// Why a dataset was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatasetError {
    /// A line that does not hold what it should.
    #[error("line {line} of the dataset: {problem}")]
    Line {
        /// Counted from 1, which is the header.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// No rows at all.
    #[error("the dataset has a header but no weeks")]
    Empty,
}

/// Reads and checks the weeks of a CSV file.
///
/// # Errors
/// Names the first line that is no week: a missing column or value, a number that is none, is infinite or negative,
/// a revenue of zero, or a date that is not seven days after the one before.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Week>, DatasetError> {
    let mut reader = csv::Reader::from_reader(bytes);
    let mut weeks: Vec<Week> = Vec::new();
    let headers = reader.headers().map_err(|error| refused(1, &csv::StringRecord::new(), &error))?.clone();
    let mut record = csv::StringRecord::new();
    loop {
        let next_line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|error| refused(next_line, &headers, &error))? {
            break;
        }
        let line = record.position().map_or(next_line, csv::Position::line);
        let week: Week = record.deserialize(Some(&headers)).map_err(|error| refused(line, &headers, &error))?;
        check(&week, weeks.last()).map_err(|problem| DatasetError::Line { line, problem })?;
        weeks.push(week);
    }
    if weeks.is_empty() { Err(DatasetError::Empty) } else { Ok(weeks) }
}

/// Names of the events that occur, sorted.
pub(crate) fn events(weeks: &[Week]) -> Vec<String> {
    let names: BTreeSet<&String> = weeks.iter().filter_map(|week| week.event.as_ref()).collect();
    names.into_iter().cloned().collect()
}

fn check(week: &Week, previous: Option<&Week>) -> Result<(), String> {
    let activities = CHANNELS.iter().map(|channel| (channel.name, (channel.activity)(week)));
    for (name, value) in activities.chain([("revenue", week.revenue), ("competitor sales", week.competitor_sales)]) {
        if !value.is_finite() || value < 0.0 {
            return Err(format!("{name} must be a finite number of at least 0 and is {value}"));
        }
    }
    if week.revenue == 0.0 {
        return Err("revenue must be above 0".to_owned());
    }
    match previous.map(|previous| (previous.date, previous.date.checked_add(7.days()))) {
        Some((date, next)) if next.as_ref().ok() != Some(&week.date) => {
            Err(format!("{} must be seven days after {date}", week.date))
        }
        _ => Ok(()),
    }
}

fn refused(line: u64, headers: &csv::StringRecord, error: &csv::Error) -> DatasetError {
    let problem = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            match err.field().and_then(|field| headers.get(usize::try_from(field).ok()?)) {
                Some(column) => format!("{column}: {}", err.kind()),
                None => err.to_string(),
            }
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} columns instead of {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    DatasetError::Line { line, problem }
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    // The reader names the column of its own errors only.
    let day = String::deserialize(deserializer)?.parse();
    day.map_err(|error: jiff::Error| D::Error::custom(format!("DATE: {error}")))
}

fn event<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Ok((name != NO_EVENT && !name.is_empty()).then_some(name))
}

/// The file in `data/`.
#[cfg(test)]
pub(crate) const SAMPLE: &[u8] = include_bytes!("data/dt_simulated_weekly.csv");

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "DATE,revenue,tv_S,ooh_S,print_S,search_S,competitor_sales_B,facebook_S,events,newsletter\n";

    fn message(rows: &str) -> String {
        parse(format!("{HEADER}{rows}").as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn the_sample_has_208_weeks_and_two_events() {
        let weeks = parse(SAMPLE).expect("the sample parses");
        assert_eq!(weeks.len(), 208);
        assert_eq!(weeks[0].date.to_string(), "2015-11-23");
        assert_eq!(weeks[207].date.to_string(), "2019-11-11");
        assert_eq!(weeks[207].revenue, 2_767_788.333_333_33);
        assert_eq!(weeks.iter().filter(|week| week.event.is_some()).count(), 2);
        assert_eq!(events(&weeks), ["event1", "event2"]);
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_its_line() {
        let text = message("2020-01-06,1,0,0,0,0,0,0,na,0\n2020-01-13,many,0,0,0,0,0,0,na,0\n");
        assert!(text.starts_with("line 3 of the dataset: revenue: "), "{text}");
    }

    #[test]
    fn a_date_that_is_none_is_refused_with_its_line() {
        let text = message("2020-02-31,1,0,0,0,0,0,0,na,0\n");
        assert!(text.starts_with("line 2 of the dataset: DATE: "), "{text}");
    }

    #[test]
    fn negative_infinite_and_zero_values_are_refused_by_name() {
        assert!(
            message("2020-01-06,1,-2,0,0,0,0,0,na,0\n").contains("tv must be a finite number of at least 0 and is -2")
        );
        assert!(message("2020-01-06,1,0,0,0,inf,0,0,na,0\n").contains("search must be"));
        assert!(message("2020-01-06,0,0,0,0,0,0,0,na,0\n").contains("line 2 of the dataset: revenue must be above 0"));
    }

    #[test]
    fn a_week_that_is_missing_is_refused() {
        let text = message("2020-01-06,1,0,0,0,0,0,0,na,0\n2020-01-20,1,0,0,0,0,0,0,na,0\n");
        assert_eq!(text, "line 3 of the dataset: 2020-01-20 must be seven days after 2020-01-06");
    }

    #[test]
    fn a_row_of_another_length_is_refused_with_its_line() {
        assert_eq!(message("2020-01-06,1\n"), "line 2 of the dataset: 2 columns instead of 10");
    }

    #[test]
    fn a_missing_column_is_refused_by_name() {
        let text = parse(b"DATE,revenue\n2020-01-06,1\n").expect_err("refused").to_string();
        assert!(text.contains("tv_S"), "{text}");
    }

    #[test]
    fn a_file_without_weeks_is_refused() {
        assert!(matches!(parse(HEADER.as_bytes()), Err(DatasetError::Empty)));
    }
}
